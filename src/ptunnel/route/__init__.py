"""Which way a tunnel goes: proxies in order, which of them are well, as whom."""
