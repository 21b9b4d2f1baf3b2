"""`shutka ...` as a user who may read nothing of this one's.

Python itself may lie in a folder that only root can read. So everything is imported before, and the
bundle that WARM names is served once.
"""
import os

NOBODY = 65534

if __name__ == '__main__':
    import uvicorn.lifespan.on  # noqa: F401
    import uvicorn.loops.auto  # noqa: F401
    import uvicorn.protocols.http.auto  # noqa: F401
    import uvicorn.protocols.websockets.auto  # noqa: F401

    import shutka.serve.api  # noqa: F401
    from shutka.faces.cli import main
    from shutka.serve.seats import open_memory, open_seat
    seat, content = open_seat(os.environ['WARM'])
    with open_memory(seat, f"{os.environ['WARM']}.bank", content) as bank: bank.search('warm')
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    main()
