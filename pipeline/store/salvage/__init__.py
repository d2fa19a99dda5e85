"""What can still be read where SQLite or Arrow give up: a damaged ledger page by page, a damaged part by row groups.

Nothing here writes. Bytes and copies of files go in; rows come out, with a count of what could not be read.
"""
