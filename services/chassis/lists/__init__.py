"""Lists that are sorted, filtered, searched and read by page or by cursor: one engine for those of every service.

A list describes each of its columns once (`columns`); what a request asks for is read against that (`pagination`,
`values`), becomes conditions and an order (`conditions`, `order`), and is read within a bound of time (`reading`).
"""
