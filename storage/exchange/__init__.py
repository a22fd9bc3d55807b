"""Files of pairs and labels, in and out.

parsed.py            pairs and labels of a file, whatever its format; problems with their line
format_reader.py     the reader that all formats share; format_writer.py the writers
formats/             one format a file: `read(path, videos)`, `write(pairs, folder)`; detect.py has them by name
importing/           parsed pairs and labels into the store: resolved by content, compared (dry run), inserted
exporting/           a source, a campaign or the whole store into a folder
"""
