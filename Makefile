# pfa_vanguard: PGXS build.
#
#   make, make install   build and install the extension
#   make installcheck    regression, isolation and TAP tests against what is
#                        installed, in instances of their own (not as root)
#   make check           install what is missing, build, and run every test
#   make demo            a throwaway server with a simulator and three
#                        organizations; make demo-stop removes it
#   make bench-sync      measure syncs against COPY
#   make bench-merge     measure pfa_get, pfa_record, drafts against plain SQL
#   make bench-merge-growth
#                        the same while the table grows to 10,000,000 records
#   make stress-merge    100 clients on the same records for five minutes;
#                        DURATION=60 for another time
#   make bench-cache     measure cached answers against computed ones
#   make bench-metrics   measure what counting and a scrape cost
#   make bench-kpi       measure live KPI and views; SIZE=100000 for fewer records
#   make monitoring-up   exporters, Prometheus and Alertmanager for the demo
#                        server; make monitoring-down stops them;
#                        make monitoring-pictures takes those of the guide

EXTENSION = pfa_vanguard
# PGXS takes the name VERSION for the server's.
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" pfa_vanguard.control)

MODULE_big = pfa_vanguard
SOURCES := $(sort $(wildcard src/*.c src/*/*.c))
OBJS = $(SOURCES:.c=.o)
SQL_PARTS := $(sort $(wildcard sql/parts/*.sql))
DATA_built = pfa_vanguard--$(EXTVERSION).sql
EXTRA_CLEAN = build tmp_check

PG_CPPFLAGS = -I$(CURDIR)/src -DPFA_VERSION='"$(EXTVERSION)"'
PG_CFLAGS = -Wextra -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers -Wno-cast-function-type
SHLIB_LINK = -lcurl -lhiredis

# What "make installcheck" runs; everything it writes goes to TEST_OUT.
TEST_OUT ?= $(CURDIR)/build/test
REGRESS = $(sort $(patsubst test/sql/%.sql,%,$(wildcard test/sql/*.sql)))
ISOLATION = $(sort $(patsubst test/specs/%.spec,%,$(wildcard test/specs/*.spec)))
REGRESS_OPTS = --inputdir=$(CURDIR)/test --outputdir=$(TEST_OUT)/regress \
	--temp-instance=$(TEST_OUT)/regress/instance \
	--temp-config=$(CURDIR)/test/installcheck.conf \
	--load-extension=pfa_vanguard
TAP_FILES = $(sort $(wildcard test/t/*.t))

# JIT inlines nothing from here that would be worth the bitcode.
override with_llvm = no

# Goals that are scripts of tools/ need no PGXS: they install what it comes
# with.
BENCHES = bench-sync bench-merge bench-kpi bench-metrics bench-cache
TASKS = check demo demo-stop monitoring-up monitoring-down monitoring-pictures \
	bench-merge-growth stress-merge $(BENCHES)

PG_CONFIG ?= pg_config
ifneq ($(filter $(TASKS),$(MAKECMDGOALS)),)
check:
	tools/check

demo:
	tools/demo start

demo-stop:
	tools/demo stop

monitoring-up monitoring-down monitoring-pictures: monitoring-%:
	tools/monitoring $*

bench-merge-growth:
	tools/bench_merge growth

stress-merge:
	tools/stress_merge

$(BENCHES): bench-%:
	tools/bench_$*
else
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)
endif

pfa_vanguard--$(EXTVERSION).sql: $(SQL_PARTS) pfa_vanguard.control
	cat $(SQL_PARTS) > $@

# Headers are few: any change rebuilds all.
$(OBJS): $(wildcard src/*.h src/*/*.h)

simulator:
	$(MAKE) -C test/pems_sim

unit:
	$(MAKE) -C test/unit check

# PGXS's own installcheck does not run TAP tests of extensions on every server
# package, so the three kinds are run here, in the order of their speed.
installcheck: simulator check-regress check-isolation check-tap

check-regress:
	mkdir -p $(TEST_OUT)/regress
	$(pg_regress_installcheck) $(REGRESS_OPTS) $(REGRESS)

check-isolation:
ifneq ($(ISOLATION),)
	mkdir -p $(TEST_OUT)/isolation
	$(pg_isolation_regress_installcheck) $(subst regress/,isolation/,$(subst /regress ,/isolation ,$(REGRESS_OPTS))) $(ISOLATION)
endif

check-tap:
	rm -rf $(TEST_OUT)/tap
	mkdir -p $(TEST_OUT)/tap
	PATH="$(bindir):$$PATH" TESTDIR=$(TEST_OUT)/tap PGPORT=6$(DEF_PGPORT) \
	PG_REGRESS=$(dir $(PGXS))../test/regress/pg_regress \
	PFA_ROOT=$(CURDIR) \
	prove -I $(dir $(PGXS))../test/perl -I test/perl $(PROVE_FLAGS) $(TAP_FILES)

.PHONY: simulator unit check-regress check-isolation check-tap $(TASKS)
