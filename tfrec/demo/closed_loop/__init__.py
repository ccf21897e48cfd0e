"""The closed loop: simulated people act on what they are shown, and the models learn from that alone.

    people.py   who they are: tastes that a replay does not know, what they do, and what is best for them
    visits.py   one arm's people ask its gateway, and send it what they did
    loop.py     the arms side by side: serve, visit, retrain, swap
    figures.py  reward per request by round, with intervals
"""
