"""An OpenAI-compatible endpoint on this machine, for rehearsals and tests. It is no model and says so.

It decodes the image it is sent, bills the tokens that the published rule gives, and describes what can
be measured. Limits, latency and faults are settings of an `EmulatorConfig`.
"""
