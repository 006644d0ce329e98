"""HTTP/1.1 on llhttp, both roles, strict, with bounded buffers. No policy."""
