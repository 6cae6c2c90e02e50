"""Print what applications begin and end to play, for five seconds."""

import asyncio
import contextlib

from stagebox.graph import Added, Application, Graph, Removed


async def follow(graph: Graph) -> None:
    for application in graph.applications():
        print(application.name, "plays", application.media_name)
    async for change in graph.watch():
        match change:
            case Added(Application(name=name, media_name=media)):
                print(name, "came with", media)
            case Removed(Application(name=name)):
                print(name, "went")


async def main() -> None:
    async with Graph() as graph:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(follow(graph), 5)
        print(graph.snapshot())


asyncio.run(main())
