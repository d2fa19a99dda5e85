"""What a run shows while it goes on, and at its end.

`RunStats` come in several times a second. A terminal gets a block of three lines that is drawn over itself
(`terminal`), anything else a line now and then (`logs`), as text or as JSON. Notes and first answers are printed above
the block. `figures` and `pace` are pure: what the block says follows from the counts and the time alone.
"""
