"""Ask a bundle for code, over HTTP as an editor does: start the server, ask, print the answer, and stop the server.

    python tools/ask.py demo/shutka.zip 'how many days the month of a date has'
"""
import json
import subprocess
import sys
import time
import urllib.request


def main(bundle: str, question: str):
    server = subprocess.Popen([sys.executable, '-m', 'shutka.faces.cli', 'serve', bundle, '--port', '0'], stdout=subprocess.PIPE, text=True)
    try:
        address = next(word for line in server.stdout for word in line.split() if word.startswith('http://') and word.endswith('/v1'))
        body = {'model': 'shutka-v2', 'max_tokens': 80, 'temperature': 0, 'messages': [{'role': 'user', 'content': question}]}
        request = urllib.request.Request(f'{address}/chat/completions', json.dumps(body).encode(), {'Content-Type': 'application/json'})
        began = time.monotonic()
        with urllib.request.urlopen(request, timeout=120) as response: answer = json.load(response)
        print(f'POST {address}/chat/completions\n> {question}\n\n{answer["choices"][0]["message"]["content"]}\n')
        for memory in answer['x_shutka']['memories']: print('  looked up:', memory)
        print(f"  {answer['usage']['completion_tokens']} tokens in {time.monotonic() - began:.1f} s")
    finally:
        server.terminate()
        server.wait(30)


if __name__ == '__main__':
    if len(sys.argv) != 3: sys.exit(__doc__)
    main(*sys.argv[1:])
