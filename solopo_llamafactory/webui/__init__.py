"""What the host's web UI shows of `stage: solopo`. `hooks/webui.py` joins it to the host."""
