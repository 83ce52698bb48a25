"""`fdt fit | validate | test | predict`: the command line, its checks, its arms, and Lightning's CLI behind them."""
