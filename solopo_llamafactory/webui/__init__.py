"""What the host's web UI shows of `stage: solopo`. `host/webui.py` joins it to the host."""
