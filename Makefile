# `make run`, `make test` and `make lint` each work alone on a fresh checkout.

VENV := .venv
IN_VENV := $(VENV)/bin/python

# The first of these that is 3.11 to 3.13 and can make a virtual environment.
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3 python; do \
	if $$python -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; \
	then echo $$python; break; fi; done)

# Processes that test at once. On two cores a third one works while others wait for a browser, a server or a cluster.
TESTERS ?= 3

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: run test lint

run: $(VENV)/.installed
	$(IN_VENV) -m streamlit run app.py

test: $(VENV)/.installed-dev
	$(IN_VENV) -m pytest --numprocesses $(TESTERS) --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.installed-dev
	$(IN_VENV) -m ruff check
	$(IN_VENV) -m ruff format --check
	$(IN_VENV) -m mypy

# opencv-python needs a desktop's libGL, which a bare server lacks; the headless build is the same module without windows.
define ensure_cv2
	@$(IN_VENV) -c 'import cv2' 2>/dev/null || $(IN_VENV) -m pip install --force-reinstall --no-deps opencv-python-headless
endef

# An installation holds until pyproject.toml changes.
$(VENV)/.installed: pyproject.toml $(IN_VENV)
	$(IN_VENV) -m pip install --editable .
	$(ensure_cv2)
	touch $@

$(VENV)/.installed-dev: pyproject.toml $(IN_VENV)
	$(IN_VENV) -m pip install --editable '.[dev]'
	$(ensure_cv2)
	touch $(VENV)/.installed $@

$(IN_VENV):
	@test -n "$(PYTHON)" || { echo "Trimboard needs Python 3.11, 3.12 or 3.13 with venv; install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { echo "$(PYTHON) is not Python 3.11, 3.12 or 3.13; name one: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
