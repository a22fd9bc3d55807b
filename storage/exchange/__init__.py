"""Files of pairs and labels, in and out.

parsed.py     what a file says, whatever its format: pairs, assignments of annotators, their labels; problems with their line
formats.py    the formats by name, and which one a file has
videoalign.py, genai_bench.py, descore_cold_start.py, descore_rl.py, plain_csv.py, preference_jsonl.py,
folder.py, parquet.py, studio_jsonl.py, hf_dataset.py      one format each: `read(path, videos)`, `write(pairs, folder)`
incoming.py   parsed pairs and labels into the store, all or nothing
export.py     a source, a campaign or the whole store into a folder
"""
