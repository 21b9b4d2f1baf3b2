"""Ask a model for code, over HTTP as an editor does: start the server, ask, print the answer, and stop the server.

    python tools/ask.py demo/shutka.zip 'shortest path between two nodes'
    python tools/ask.py runs/finetune --bank memory 'shortest path between two nodes'
"""
import json
import subprocess
import sys
import time
import urllib.request


def find_address(lines) -> str:
    "The address of the API in what the server prints."
    words = (word for line in lines for word in line.split())
    return next(word for word in words if word.startswith('http://') and word.endswith('/v1'))


def main(*model: str, question: str):
    command = [sys.executable, '-m', 'shutka.faces.cli', 'serve', *model, '--port', '0']
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        address = find_address(server.stdout)
        url = f'{address}/chat/completions'
        with urllib.request.urlopen(f'{address}/models', timeout=60) as response: models = json.load(response)['data']
        body = {'model': models[0]['id'], 'max_tokens': 160, 'temperature': 0,
                'messages': [{'role': 'user', 'content': question}]}
        request = urllib.request.Request(url, json.dumps(body).encode(), {'Content-Type': 'application/json'})
        began = time.monotonic()
        with urllib.request.urlopen(request, timeout=120) as response: answer = json.load(response)
        print(f'POST {url}\n> {question}\n\n{answer["choices"][0]["message"]["content"]}\n')
        for memory in answer['x_shutka']['memories']: print('  looked up:', memory)
        print(f"  {answer['usage']['completion_tokens']} tokens in {time.monotonic() - began:.1f} s")
    finally:
        server.terminate()
        server.wait(30)


if __name__ == '__main__':
    if len(sys.argv) not in (3, 5): sys.exit(__doc__)
    main(*sys.argv[1:-1], question=sys.argv[-1])
