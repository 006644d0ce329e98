"""A LiteLLM proxy's `config.yaml` as a crossfade.yaml: pure, the files and the screen are the command's.

`translate` is the way in. Nothing of the input is lost silently: what has no effect on the output is a remark.
"""
