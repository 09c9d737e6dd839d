"""Many clients at once, some of which leave in the middle: load.py URL CLIENTS SECONDS."""

import asyncio
import collections
import json
import random
import sys
import time
import urllib.parse

outcomes = collections.Counter()


async def request(host, port, body, leaves):
    reader, writer = await asyncio.open_connection(host, port)
    try:
        text = json.dumps(body).encode()
        head = f"POST /v1/responses HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text)
        status = int((await reader.readline()).split()[1])
        if leaves:
            await asyncio.sleep(random.random() / 2)
            outcomes["left"] += 1
            return status
        rest = (await reader.read()).decode()
        if status == 200:
            is_whole = ("response.completed" in rest or "response.incomplete" in rest) if body["stream"] else "usage" in rest
            outcomes["answered" if is_whole else "broken"] += 1
        else:
            outcomes[f"status {status}"] += 1
        return status
    finally:
        writer.close()


async def client(number, host, port, end):
    chance = random.Random(number)
    while time.monotonic() < end:
        body = {
            "input": f"Client {number} says {chance.random()}",
            "stream": chance.random() < 0.7,
            "max_output_tokens": chance.randrange(1, 80),
            "store": chance.random() < 0.5,
        }
        try:
            status = await request(host, port, body, chance.random() < 0.3)
        except OSError as error:
            outcomes[type(error).__name__] += 1
            continue
        if status == 429:
            await asyncio.sleep(chance.random())


async def main(url, clients, seconds):
    place = urllib.parse.urlparse(url)
    end = time.monotonic() + seconds
    await asyncio.gather(*(client(number, place.hostname, place.port, end) for number in range(clients)))
    print(dict(outcomes))


asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
