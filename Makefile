# SPDX-License-Identifier: Apache-2.0
#
# Everything starts here: `make` lists the targets. On a fresh Debian 12 only make has to be there;
# the rest is installed by `make setup`, which every target that needs it runs first.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := help

# One kernel slot (see tests/vm/kernels.py), for example KERNEL=6.12; empty means all of them.
KERNEL ?=
# More arguments for pytest, for example ARGS='-k mount -x'.
ARGS ?=

# Debian's own interpreter: another python3 on PATH would lack the distribution's modules.
PYTHON := /usr/bin/python3
VENV := .venv
STAMPS := .cache/stamps
HOST := $(STAMPS)/host-packages
PACKAGE_LISTS := $(wildcard packaging/build-packages.txt tests/vm/packages.txt)
# The receivers that tests of delivery start; not for the demo, since they bring services of their own.
RECEIVERS := $(STAMPS)/receiver-packages
# A receiver of Fluent Forward that is not ours, for the same tests: a package of npm's, which needs node.
FLUENT_SERVER := $(STAMPS)/fluent-server

##@ Use

.PHONY: help
help: ## List the targets
	@awk 'BEGIN { FS = ":.*## "; print "make TARGET [KERNEL=6.12] [ARGS=...]" } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[.A-Za-z0-9_-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# Said before anything is installed, which is why the demo has no prerequisites.
define DEMO_WORDS
This demo shows audit-enricher at work in a virtual machine of its own. What it puts on this machine:
  with apt-get      the packages in packaging/build-packages.txt and tests/vm/packages.txt that are missing
  .venv, *.egg-info Python tools and this package, by pip
  build, enricher   what is compiled: the BPF programs, the demo's programs, and its result
  .cache            a Debian kernel and the machine's disk, 1.5 GB (made once, in a few minutes)
Nothing else, and nothing outside this directory but the packages. `make clean` removes all but those.
$(if $(SINK),
With SINK=$(SINK) also those in tests/delivery/packages.txt: Debian's rsyslog and nats-server bring services of this
machine's own. The demo starts receivers beside them$(comma) on the loopback$(comma) which end with the demo.
)
endef
export DEMO_WORDS
comma := ,
# The receivers that the demo can deliver to, by the name in SINK (tests/vm/demo_sink.py).
DEMO_SINKS := rsyslog nats

.PHONY: demo
demo: ## Boot a guest with audit on and show enriched records; SINK=rsyslog or nats delivers them to a receiver too
	@$(if $(filter-out $(DEMO_SINKS),$(SINK)),echo "make demo: there is no SINK=$(SINK); there are: $(DEMO_SINKS)" >&2; exit 2)
	@printf '%s\n' "$$DEMO_WORDS"
	@$(MAKE) --silent --no-print-directory bpf workload compiled $(VENV)/.stamp $(if $(SINK),$(RECEIVERS))
	@$(VENV)/bin/python -m tests.vm.demo $(if $(KERNEL),--kernel $(KERNEL)) $(if $(SINK),--sink $(SINK))

.PHONY: vm
vm: bpf workload $(VENV)/.stamp ## Boot a guest and open a shell in it; the checkout is at /opt/share
	@$(VENV)/bin/python -m tests.vm run --kernel $(or $(KERNEL),6.12) --share .

##@ Build

.PHONY: setup
setup: ## Install the host packages that are missing (apt-get, as root)
	@rm -f $(HOST) $(RECEIVERS)
	@$(MAKE) --no-print-directory $(HOST) $(RECEIVERS)

# Asks dpkg rather than PATH, so that headers and libraries are covered too.
$(HOST): $(PACKAGE_LISTS)
$(RECEIVERS): tests/delivery/packages.txt | $(HOST)
$(HOST) $(RECEIVERS):
	@mkdir -p $(@D)
	@wanted=$$(sed 's/#.*//' $^ | xargs -n1 | sort -u); \
	missing=; \
	for package in $$wanted; do \
		status=$$(dpkg-query -W -f='$${db:Status-Status}' "$$package" 2>/dev/null || true); \
		[[ $$status == installed ]] || missing+=" $$package"; \
	done; \
	if [[ -n $$missing ]]; then \
		if (( EUID != 0 )); then \
			echo "These packages are needed and not installed. As root:" >&2; \
			echo "  apt-get update && apt-get install -y --no-install-recommends$$missing" >&2; \
			exit 1; \
		fi; \
		echo "Installing with apt-get:$$missing"; \
		export DEBIAN_FRONTEND=noninteractive; \
		patient='-o DPkg::Lock::Timeout=600 -o Acquire::Retries=5'; \
		{ apt-get $$patient update -qq || echo "Going on with the package lists that are there."; \
			apt-get $$patient install -y -qq --no-install-recommends $$missing; } \
			>$(@D)/apt.log 2>&1 || { tail -n 40 $(@D)/apt.log >&2; exit 1; }; \
	fi
	@touch $@

# Where there is no npm it is said, and what needs the server is skipped.
$(FLUENT_SERVER): tests/delivery/receivers/fluent-server.package
	@mkdir -p $(@D)
	@if command -v npm >/dev/null; then \
		npm install --silent --fetch-retries 5 --no-save --no-audit --no-fund --ignore-scripts --prefix .cache/fluent-server \
			--cache .cache/npm-cache $$(grep -v '^#' $<) >$(@D)/npm.log 2>&1 || { tail -n 20 $(@D)/npm.log >&2; exit 1; }; \
		touch $@; \
	else \
		echo "npm is not installed (Debian has it): the tests against FluentServer are skipped."; \
	fi

# `make .venv` works too; the stamp is what has a date that means something.
.PHONY: .venv
.venv: $(VENV)/.stamp ## The virtual environment, with the package in place and the test tools

$(VENV)/.stamp: pyproject.toml | $(HOST)
	@echo "Making $(VENV)"
	@test -x $(VENV)/bin/pip || $(PYTHON) -m venv --clear $(VENV)
	@PIP_CACHE_DIR=$(CURDIR)/.cache/pip $(VENV)/bin/python -m pip install --quiet --retries 10 --timeout 60 --disable-pip-version-check --editable '.[test]'
	@touch $@

# The kernel side: one linked object per architecture. The flags are the same for all but for the
# macro that tells libbpf's headers where a function's arguments are.
CLANG := clang-14
BPFTOOL := $(firstword $(wildcard /usr/sbin/bpftool /usr/bin/bpftool) bpftool)
# x86_64 comes four times: where the preempt count is differs, and whether types can be cast, and asking
# libbpf to find out needs more privilege than loading does (docs/adr/0006-three-objects-for-x86.md).
BPF_ARCHES := x86_64 x86_64-casts x86_64-pcpu_hot x86_64-nowhere aarch64
BPF_TARGET_x86_64 := x86
BPF_TARGET_x86_64-casts := x86 -DHAVE_CASTS
BPF_TARGET_x86_64-pcpu_hot := x86 -DPREEMPT_COUNT_IN_PCPU_HOT -DHAVE_CASTS
BPF_TARGET_x86_64-nowhere := x86 -DPREEMPT_COUNT_NOWHERE
BPF_TARGET_aarch64 := arm64
BPF_SOURCES := $(wildcard bpf/*.bpf.c)
# The store of audit container identifiers is an object of its own: it may be pinned, and outlive the others.
CONTID_ARCHES := x86_64 aarch64
CONTID_SOURCES := $(wildcard bpf/contid/*.bpf.c)
BPF_OBJECTS_DIR := enricher/sources/bpf/objects
# The same sources for the package, whose bcc loader compiles them on the host it runs on. A copy that is
# made, like the objects: bpf/ is the only one to edit.
BPF_SHIPPED := $(wildcard bpf/*.bpf.c bpf/include/*.h bpf/bcc/*)
BPF_SHIPPED_DIR := enricher/sources/bpf/source
# -mcpu=v2: 5.10's verifier and JIT. BPF_PROG() gives every program a ctx, used or not. The prefix map
# keeps this directory's name out of the BTF.
BPF_CFLAGS := -g -O2 -mcpu=v2 -target bpf -Wall -Wextra -Wno-unused-parameter -Werror -Ibpf/include \
	-I/usr/include/$(shell uname -m)-linux-gnu -ffile-prefix-map=$(CURDIR)=.

.PHONY: bpf
bpf: $(BPF_ARCHES:%=$(BPF_OBJECTS_DIR)/%.bpf.o) $(CONTID_ARCHES:%=$(BPF_OBJECTS_DIR)/%-contid.bpf.o) $(BPF_SHIPPED:bpf/%=$(BPF_SHIPPED_DIR)/%) ## Compile and link the BPF programs

$(BPF_SHIPPED_DIR)/%: bpf/%
	@mkdir -p $(@D)
	@cp $< $@

define BPF_RULES
build/bpf/$(1)/%.bpf.o: bpf/%.bpf.c Makefile | $$(HOST)
	@mkdir -p $$(@D)
	@echo "BPF  $$@"
	@$$(CLANG) $$(BPF_CFLAGS) -D__TARGET_ARCH_$$(BPF_TARGET_$(1)) -MMD -MP -c $$< -o $$@

# maps first: bpftool 7.1 loses the offsets of .maps where a file that only declares a map comes before
# the one that defines it. A unit test opens the object and would see.
$$(BPF_OBJECTS_DIR)/$(1).bpf.o: build/bpf/$(1)/maps.bpf.o build/bpf/$(1)/layout.bpf.o $$(patsubst bpf/%.bpf.c,build/bpf/$(1)/%.bpf.o,$$(filter-out bpf/maps.bpf.c bpf/layout.bpf.c,$$(BPF_SOURCES)))
	@mkdir -p $$(@D)
	@echo "LINK $$@"
	@$$(BPFTOOL) gen object $$@ $$^
endef
$(foreach arch,$(BPF_ARCHES),$(eval $(call BPF_RULES,$(arch))))

define CONTID_RULES
$$(BPF_OBJECTS_DIR)/$(1)-contid.bpf.o: build/bpf/$(1)/contid/maps.bpf.o $$(patsubst bpf/%.bpf.c,build/bpf/$(1)/%.bpf.o,$$(filter-out bpf/contid/maps.bpf.c,$$(CONTID_SOURCES)))
	@mkdir -p $$(@D)
	@echo "LINK $$@"
	@$$(BPFTOOL) gen object $$@ $$^
endef
$(foreach arch,$(CONTID_ARCHES),$(eval $(call CONTID_RULES,$(arch))))
-include $(wildcard build/bpf/*/*.d) $(wildcard build/bpf/*/*/*.d)

# Programs for the guests. No libc: an exec of one costs a tenth of a dynamic binary's under emulation,
# and they run in any container.
WORKLOAD := $(patsubst tests/workload/%.c,build/workload/%,$(wildcard tests/workload/*.c))
WORKLOAD_CFLAGS := -std=gnu11 -Os -Wall -Wextra -Werror -ffreestanding -fno-stack-protector \
	-fno-asynchronous-unwind-tables -fno-pic -fcf-protection=none
WORKLOAD_LDFLAGS := -static -nostdlib -no-pie -Wl,--build-id=none -Wl,-z,noexecstack \
	-Wl,-z,noseparate-code -s

.PHONY: workload
workload: $(WORKLOAD) ## Build the static programs that the tests run in guests

build/workload/%: tests/workload/%.c tests/workload/nolibc.h Makefile | $(HOST)
	@mkdir -p $(@D)
	@echo "CC   $@"
	@gcc $(WORKLOAD_CFLAGS) $< -o $@ $(WORKLOAD_LDFLAGS)

# The hot modules as extension modules beside their sources (docs/adr/0022-hot-modules-compiled.md): the same bytes, in
# less time. Without them the sources run.
.PHONY: compiled
compiled: $(VENV)/.stamp ## Compile the modules that every record passes through, in place
	@$(VENV)/bin/python tools/compile.py

##@ Test

PYTEST := $(VENV)/bin/python -m pytest $(if $(KERNEL),--kernel $(KERNEL)) $(ARGS)
# One part per kernel, two beside each other: tests/parts.py.
PARTS := $(VENV)/bin/python -m tests.parts $(if $(KERNEL),--kernel $(KERNEL))
READY := bpf workload $(VENV)/.stamp compiled

.PHONY: test
test: $(READY) $(RECEIVERS) $(FLUENT_SERVER) ## Everything: unit, lint, and the suites on real kernels in virtual machines
	@$(PARTS) --durations=12 --durations-min=4 $(ARGS)

.PHONY: unit
unit: $(READY) ## The tests that need no virtual machine and no privilege
	@$(PYTEST) tests/unit tests/workload

.PHONY: lint
lint: $(VENV)/.stamp ## Format, lint, types, import direction, licences, documentation
	@$(PYTEST) tests/lint

# Every program runs, whatever came of the one before. What needs a mirror the first time is the last.
BENCHES := $(filter-out bench_rivals,$(notdir $(basename $(wildcard tests/bench/bench_*.py)))) bench_rivals

.PHONY: bench
bench: compiled $(VENV)/.stamp ## What the code costs on this machine: every program in tests/bench
	@failed=; \
	for program in $(BENCHES); do \
		$(VENV)/bin/python -m tests.bench.$$program || failed+=" $$program"; \
	done; \
	[[ -z $$failed ]] || { echo "make bench: failed:$$failed" >&2; exit 1; }

# The size that the figures in docs/performance.md are of takes ARGS='--events 500000'.
.PHONY: bench-offline
bench-offline: compiled $(VENV)/.stamp ## Audit logs to JSON beside LAUREL and auparse, decoding compared first; build/bench
	@$(VENV)/bin/python -m tests.bench.bench_rivals $(ARGS)

# A boot for each, some 15 minutes each where 500 000 events are wanted; what is there is not made again.
.PHONY: bench-captures
bench-captures: workload $(VENV)/.stamp ## Logs for bench-offline: a build, a web server, containers under the STIG and PCI rules, in guests; .cache/bench
	@$(VENV)/bin/python -m tests.bench.captures $(if $(KERNEL),--kernel $(KERNEL)) $(ARGS)

# In turns in one boot. The figures in docs/performance.md are of what ARGS says there.
.PHONY: bench-live
bench-live: $(READY) ## The service beside auditd and LAUREL in a guest: CPU, loss and latency at four rates; build/bench
	@$(VENV)/bin/python -m tests.bench.live --kernel $(or $(KERNEL),6.12) $(ARGS)

# What `make test` leaves out: the sizes that take too long for every change. Each stays below an hour, on all
# kernels or on KERNEL.
.PHONY: soak-records
soak-records: $(READY) ## The main job at its full size, every record type, every loss, on every kernel
	@$(PARTS) $(ARGS) --full tests/suites/test_main_job.py tests/suites/test_variety.py tests/suites/test_losses.py tests/interop

.PHONY: soak-suites
soak-suites: $(READY) ## The other suites on every kernel: service, metadata, journal, options, refusals, doctor, quiet, cgroups, destinations
	@$(PARTS) $(ARGS) --rest $(addprefix tests/suites/test_,$(addsuffix .py,service metadata journal options refusals doctor quiet beside_auditd cgroups cgroup_v1 destinations watch without_audit))

.PHONY: soak-ways
soak-ways: $(READY) ## As auditd's plugin and as the audit daemon, beside the multicast group: 200 000 records on each, the same events
	@$(PARTS) $(ARGS) --full tests/suites/test_ways.py

.PHONY: soak-namespaces
soak-namespaces: $(READY) ## Namespaces at full size on every kernel: the storm, and what the programs cost, counted
	@$(PARTS) $(ARGS) --rest $(addprefix tests/suites/test_,$(addsuffix .py,changes lives users packets namespaces_command overhead))

.PHONY: soak-contid
soak-contid: $(READY) ## Audit container identifiers on every kernel: the store, the race with fork, engines
	@$(PARTS) $(ARGS) --full $(addprefix tests/suites/test_contid,_store.py .py _records.py _engines.py)

# On the two kernels that the threat model is about, where KERNEL names no other.
.PHONY: soak-threats
soak-threats: $(READY) ## What the threat model says is tried, in guests, and every fault of a host: all told, nothing wrong
	@$(PARTS) $(if $(KERNEL),,--kernel 6.1 --kernel newest) $(ARGS) --full tests/suites/test_threats.py tests/suites/test_threats_long.py \
		tests/suites/test_threats_auditd.py tests/suites/test_hardening_faults.py

# The seed is said, and ARGS='--seed N' goes on where a run of it was ended.
.PHONY: soak-hardening
soak-hardening: $(READY) ## Mixed load and faults at random for 55 minutes: 0 unaccounted, 0 wrong, memory flat; ARGS='--minutes N --seed N'
	@$(VENV)/bin/python -m tests.suites.soak_hardening $(if $(KERNEL),--kernel $(KERNEL)) $(ARGS)

.PHONY: soak-bcc
soak-bcc: $(READY) ## The bcc loader against libbpf on 5.10 and 6.1, with BTF and without
	@$(PYTEST) --full tests/suites/test_bcc.py

# Each test has its own receivers and a hundred thousand events of a real capture, which the main job leaves; where
# there is none, that comes first, on one kernel. What was interrupted goes on with ARGS='-k network', or another test's name.
.PHONY: soak-delivery
soak-delivery: $(READY) $(RECEIVERS) ## Every destination through every fault: receivers, network, disk, kill -9; one dead beside one that is well
	@compgen -G '.cache/corpus/job-*.capture' >/dev/null || \
		$(VENV)/bin/python -m pytest --kernel $(or $(KERNEL),6.12) tests/suites/test_main_job.py
	@$(PYTEST) --full -s --durations=0 --durations-min=4 --ignore-glob='*test_nats*' --ignore-glob='*test_kafka*' --ignore-glob='*test_collect*' --ignore-glob='*test_fleet*' \
		'tests/demo/test_demo.py::test_demo_with_a_receiver[rsyslog-file]' tests/delivery

# Receivers that many hosts publish to, each with a hundred thousand events through every fault of theirs.
.PHONY: soak-fleet
soak-fleet: $(READY) $(RECEIVERS) $(FLUENT_SERVER) ## A fleet's receivers through every fault: leader killed, node restarted, receiver paused, kill -9
	@compgen -G '.cache/corpus/job-*.capture' >/dev/null || \
		$(VENV)/bin/python -m pytest --kernel $(or $(KERNEL),6.12) tests/suites/test_main_job.py
	@$(PYTEST) --full -s --durations=0 --durations-min=4 $(wildcard tests/delivery/test_forward.py tests/delivery/test_nats*.py \
		tests/delivery/test_kafka*.py tests/delivery/test_collect*.py tests/delivery/test_fleet*.py) tests/suites/test_fleet.py \
		'tests/demo/test_demo.py::test_demo_with_a_receiver[nats-stream AUDIT]'

# The package with ECS's definitions is not in the test tools: npm, and what it is configured with, fetches it.
.PHONY: soak-schemas
soak-schemas: $(VENV)/.stamp ## The ECS fields that the tests know against the published package; needs npm
	@$(PYTEST) --full tests/unit/test_ecs_package.py

# Four boots where KERNEL does not say otherwise: both kernels with cgroup v2, and 6.1 with v1 and hybrid.
# When make began is told, since all of it has a limit.
.PHONY: accuracy
accuracy: export ACCURACY_BEGUN := $(shell date +%s)
accuracy: $(READY) ## Attribution of every runtime against auditd and LAUREL; tables in build/accuracy
	@$(if $(KERNEL),$(PYTEST),$(PARTS) --ids 6.1,newest,6.1-legacy,6.1-hybrid $(ARGS)) --full -s tests/accuracy

# The fuzzer is not in the test tools, so it is asked for here; what it knows stays in .cache/fuzz. The table at its end
# is for docs/testing.md.
.PHONY: soak-fuzz
soak-fuzz: $(VENV)/.stamp ## Fuzz every reader of hostile bytes, eleven minutes each, two at a time; ARGS='--seconds 60 join'
	@$(VENV)/bin/python -c 'import atheris' 2>/dev/null || PIP_CACHE_DIR=$(CURDIR)/.cache/pip \
		$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	@$(VENV)/bin/python -m tests.fuzz $(ARGS)

# What is done stands in build/bench/soak-cost.json and is not done again at the same commit: an interrupted run goes on.
.PHONY: soak-cost
soak-cost: compiled $(VENV)/.stamp ## What a record costs after ten million of them and with 5 000 containers: ratios, with a limit
	@$(VENV)/bin/python -m tests.bench.soak_cost $(ARGS)

.PHONY: soak-memory
soak-memory: compiled $(VENV)/.stamp ## Twenty minutes of a replay at 5 000 events/s: resident at most 64 MiB, and flat
	@$(VENV)/bin/python -m tests.bench.soak_memory $(ARGS)

.PHONY: docs
docs: $(VENV)/.stamp ## Write what derives from settings and options: reference, sample, manual pages, completion
	@$(VENV)/bin/python tools/gen_docs.py

.PHONY: format
format: $(VENV)/.stamp ## Rewrite the sources in the project's format
	@$(VENV)/bin/ruff format $(wildcard enricher tests tools)
	@clang-format-14 -i $(wildcard bpf/*.[ch] bpf/include/*.h bpf/contid/*.[ch] tests/workload/*.[ch])

##@ Package

DEB := $(VENV)/bin/python tools/build_deb.py

.PHONY: deb
deb: bpf compiled $(VENV)/.stamp ## The Debian packages, in dist/; DEB_SUFFIX=~prev1 for a build that sorts before
	@$(DEB) --into dist $(if $(DEB_SUFFIX),--suffix '$(DEB_SUFFIX)')

.PHONY: rpm
rpm: bpf $(VENV)/.stamp ## The rpm, in dist/; not run on a distribution of rpms so far
	@$(VENV)/bin/python tools/build_rpm.py --into dist

.PHONY: lintian
lintian: bpf compiled $(VENV)/.stamp ## Build the packages and check them against Debian's policy
	@rm -rf build/lintian
	@$(DEB) --into build/lintian
	@lintian --allow-root --pedantic --fail-on error,warning,pedantic build/lintian/*.deb

.PHONY: package-test
package-test: $(READY) ## The packages on a plain Debian 12: install, reboot, upgrade, beside auditd, remove
	@$(PYTEST) --full tests/packaging

##@ Clean up

MADE := build dist .cache $(BPF_SHIPPED_DIR) .venv $(BPF_OBJECTS_DIR) audit_enricher.egg-info \
	.hypothesis .mypy_cache .pytest_cache .ruff_cache

.PHONY: clean
clean: ## Remove everything made here: objects, environment, guests' kernels and images
	@for path in $(MADE); do \
		[[ ! -e $$path ]] || { echo "Removing $$path"; rm -rf "$$path"; }; \
	done
	@find enricher -name '*.cpython-*.so' -delete
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
	@echo "Host packages installed by make setup stay."
