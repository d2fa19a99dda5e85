"""The truth of an output directory: which records were asked, what was answered, what it cost.

SQLite in one file. `protocol` says what a run asks of its ledger, `schema` and `header` which format there is,
`database` opens and locks the file, `sqlite` answers the protocol, `transfer` carries contents into a new ledger.
"""
