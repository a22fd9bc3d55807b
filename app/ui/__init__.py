"""Pieces that pages are put together from. Factory functions, since a component subclass writes files beside itself."""
