"""The web page of `finops serve`: shows what reports say; its only writes are kills, through `budgets.switch`.

Needs the extra `dashboard`. `app.make_app` gives the page as an ASGI application, `server.serve` runs it.
"""
