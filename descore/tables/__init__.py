"""Tables as people have them: CSV as spreadsheets write it, JSON, JSON Lines and Parquet. Imports no torch."""
