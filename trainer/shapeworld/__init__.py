"""ShapeWorld: a procedural world of moving shapes in which every label is exact."""
