# The commands of the course. `make` alone lists them.
#
# Each lesson builds with the Makefile in its own folder; tests are built into
# build/. What a command does beyond building is a script in tests/tools/.

lessons := $(sort $(wildcard [0-9][0-9]-*))
numbers := $(foreach lesson,$(lessons),$(firstword $(subst -, ,$(lesson))))
first   := $(firstword $(numbers))
last    := $(lastword $(numbers))
tools   := tests/tools

# Where make was called: paths in SERVER= and CLIENT= are relative to it.
export CALLED_FROM := $(or $(PWD),$(CURDIR))

define help
make                list the commands
make demo           run every lesson, end to end, and explain what happens
make test           run all tests: each lesson on a calm and on a hostile network
make lint           check layout, warnings, excerpts, headings, links
make carry          copy a mended module into every lesson that carries it
                    (FROM=03: lesson 03's copy is the mended one)
make sanitize       run all tests under the address and undefined sanitizers
make tsan           run lesson 05's tests under the thread sanitizer
make valgrind       run all tests under valgrind
make fuzz           let a fuzzer look for bytes that break a module
                    (SECONDS_EACH=60: longer than 10; NAME=04-frame: one of them)
make bench          measure the servers of lessons 05 to 07 side by side
                    (SERVER=PROGRAM: and this one)
make mistakes       prove that the tests catch each classic mistake
make exercises      the exercises, done and to do
make watch          judge the first one to do, and again at every save
make grade          points for each exercise, for a teacher (tests/README.md)
make prove          prove that starters fail, solutions pass, and wrong answers
                    are refused (NAME=04-2: those of one exercise)
make clean          remove what was built

For one lesson, $(first) to $(last):
make $(last)             build it
make demo-$(last)        run it and explain what happens
make test-$(last)        run its tests
make diff-$(last)        what it changed in the lesson before
make trace-$(last)       the system calls of one exchange
make soak-$(last)        run its tests 100 times on busy cores (TIMES=20: 20 times);
                    make soak does so with all tests
make mistakes-$(last)    the classic mistakes, a list
make mistake-$(last)-1   a bug hunt: a copy with one of them in it

For one exercise:
make exercise-$(first)-1  judge what stands in $(firstword $(lessons))/exercises
make hint-$(first)-1      a hint; again: the next one
make solution-$(first)-1  the difference between yours and ours
make reset-$(first)-1     begin anew (yours is kept)

make test-$(last) takes
  SERVER=PROGRAM    judge this server, whoever wrote it (a path or a command)
  CLIENT=PROGRAM    judge this client
  ONLY=NAME         run one test
  HOSTILE_SEED=N    the hostile run with this seed
  CALM=1            no hostile run
  SLOW=1            the slow tests and all seeds (with SERVER or CLIENT: always)
endef
export help

help:
	@echo "$$help"

$(numbers): %:
	@$(tools)/setup.sh build
	@$(MAKE) --no-print-directory -C $(filter $*-%,$(lessons))

# The same without a word, for the commands that use the programs.
$(numbers:%=programs-%): programs-%:
	@$(MAKE) -s -C $(filter $*-%,$(lessons)) all

# Several compilers at once, unless the user has said how many.
parallel = $(if $(findstring -j,$(MAKEFLAGS)),,-j4)

demo:
	@$(tools)/setup.sh build demo
	@$(MAKE) -s $(parallel) $(numbers:%=programs-%)
	@$(tools)/demo.sh $(numbers)

# Lesson 02 has a client alone; it talks to lesson 01's server. Lesson 07 shows
# what is to be seen of lesson 06.
$(numbers:%=demo-%): demo-%:
	@$(tools)/setup.sh build demo
	@$(MAKE) -s programs-01 programs-$* $(if $(filter 07,$*),programs-06)
	@$(tools)/demo.sh $*

$(numbers:%=trace-%): trace-%:
	@$(tools)/setup.sh build demo trace
	@$(MAKE) -s programs-01 programs-$*
	@$(tools)/trace.sh $*

$(numbers:%=diff-%): diff-%:
	@$(tools)/diff.sh $*

# ---------------------------------------------------------------------- tests

WARNINGS   = -Wall -Wextra -Wpedantic -Wshadow -Wconversion \
             -Wstrict-prototypes -Wmissing-prototypes
TEST_FLAGS = -std=c17 -D_GNU_SOURCE -O1 -g $(WARNINGS) -Itests/harness \
             $(shell pkg-config --cflags criterion jansson 2>/dev/null)
TEST_LIBRARIES = $(shell pkg-config --libs criterion jansson 2>/dev/null || \
                         echo -lcriterion -ljansson)

# The harness is built once for all lessons; lesson.c for each of them, and tls.c
# for those that speak TLS.
harness   := $(patsubst %,build/tests/harness/%.o,\
                 $(filter-out startup lesson tls,\
                     $(notdir $(basename $(wildcard tests/harness/*.c)))))
headers   := $(wildcard tests/*.h tests/harness/*.h)

# Lesson 07's tests speak TLS, and know where their certificates are.
extra_07     = tls
flags_07     = -DCERTIFICATES='"$(CURDIR)/build/certs"' \
               -DTOOLS='"$(CURDIR)/tests/tools"' \
               $(shell pkg-config --cflags openssl 2>/dev/null)
libraries_07 = $(shell pkg-config --libs openssl 2>/dev/null || \
                       echo -lssl -lcrypto)
files_07     = build/certs/made

# Besides its own tests a lesson has those that it shares with others: what the
# contract promises of every server and every client, and of a room.
shared_01 =
shared_02 =
shared_03 = every-server every-client
shared_04 = room every-server every-client
shared_05 = room crowd every-server every-client
shared_06 = room crowd every-server every-client
shared_07 = room crowd every-server every-client

# startup.c says what for. On Linux it becomes a library with the name that
# Criterion asks for; where Criterion asks for none it is linked as it is.
ifeq ($(shell uname),Linux)
startup = build/tests/startup.so
link_startup = -Wl,--no-as-needed $(startup) -Wl,--as-needed \
               -Wl,-rpath,'$$ORIGIN'
endif

build/tests/startup.so: tests/harness/startup.c Makefile
	@mkdir -p $(@D)
	@name=$$(ldd "$$($(CC) -print-file-name=libcriterion.so)" 2>/dev/null | \
	    sed -n 's/^[[:space:]]*\(libgit2\.[^ ]*\) .*/\1/p'); \
	if [ -n "$$name" ]; then \
	    $(CC) -std=c17 $(WARNINGS) -fPIC -shared -Wl,-soname,"$$name" \
	        -o "$(@D)/$$name" $< && ln -sf "$$name" $@; \
	else \
	    $(CC) -std=c17 $(WARNINGS) -c -o $@ $<; \
	fi

# How to build build/tests/lesson-$(1). The tests are told the lesson's number.
define test_program
build/tests/lesson-$(1): $(patsubst %,build/tests/$(1)/%.o,\
    lesson-$(1) $(shared_$(1)) lesson $(extra_$(1))) $(harness) \
    | $(files_$(1)) $(startup)
	$$(CC) -o $$@ $$^ $$(link_startup) $$(libraries_$(1)) $$(TEST_LIBRARIES)

build/tests/$(1)/%.o: tests/%.c $(headers) Makefile
	@mkdir -p $$(@D)
	$$(CC) $$(TEST_FLAGS) $$(flags_$(1)) -DLESSON=$(1:0%=%) -c -o $$@ $$<

build/tests/$(1)/%.o: tests/harness/%.c $(headers) Makefile
	@mkdir -p $$(@D)
	$$(CC) $$(TEST_FLAGS) $$(flags_$(1)) -DLESSON=$(1:0%=%) -c -o $$@ $$<
endef
$(foreach number,$(numbers),$(eval $(call test_program,$(number))))

build/tests/harness/%.o: tests/harness/%.c $(headers) Makefile
	@mkdir -p $(@D)
	$(CC) $(TEST_FLAGS) -c -o $@ $<

build/certs/made: 07-tls/certs.sh tests/tools/certs.sh
	@tests/tools/certs.sh build/certs
	@touch $@

build/tests/hostile.so: tests/hostile/hostile.c Makefile
	@mkdir -p $(@D)
	$(CC) -std=c17 -D_GNU_SOURCE -O2 -g $(WARNINGS) -fPIC -shared -o $@ $< -ldl

build/tests/hostile-check: tests/hostile/check.c Makefile | $(startup)
	@mkdir -p $(@D)
	$(CC) $(TEST_FLAGS) -o $@ $< $(link_startup) $(TEST_LIBRARIES) -ldl

# What `make test-NN` judges: the lesson's own programs, unless others are named.
judged = $(if $(SERVER)$(CLIENT),,programs-$(1))

# What a lesson's tests need, and what all of them do.
for_tests     = build/tests/lesson-$(1) build/tests/hostile.so $(call judged,$(1))
for_all_tests = $(sort $(foreach number,$(numbers),$(call for_tests,$(number)))) \
                build/tests/hostile-check

$(numbers:%=test-%): test-%:
	@$(tools)/setup.sh build test
	@$(MAKE) -s $(parallel) $(call for_tests,$*)
	@$(tools)/run.sh $*

test:
	@$(tools)/setup.sh build test
	@$(MAKE) -s $(parallel) $(for_all_tests)
	@$(tools)/run.sh $(numbers) hostile pairs README

# The same again and again, on busy cores.
soak:
	@$(tools)/setup.sh build test
	@$(MAKE) -s $(parallel) $(for_all_tests)
	@$(tools)/soak.sh $(numbers) hostile pairs README

$(numbers:%=soak-%): soak-%:
	@$(tools)/setup.sh build test
	@$(MAKE) -s $(parallel) $(call for_tests,$*)
	@$(tools)/soak.sh $*

# ------------------------------------------------------------------ exercises

exercises := $(sort $(basename $(notdir $(wildcard tests/exercises/*.c))))

# How to build build/tests/exercise-$(2), an exercise of lesson $(1).
define exercise_program
build/tests/exercise-$(2): $(patsubst %,build/tests/$(1)/%.o,\
    exercise-$(2) lesson $(extra_$(1))) $(harness) | $(files_$(1)) $(startup)
	$$(CC) -o $$@ $$^ $$(link_startup) $$(libraries_$(1)) $$(TEST_LIBRARIES)

build/tests/$(1)/exercise-$(2).o: tests/exercises/$(2).c $(headers) Makefile
	@mkdir -p $$(@D)
	$$(CC) $$(TEST_FLAGS) $$(flags_$(1)) -DLESSON=$(1:0%=%) -c -o $$@ $$<
endef
$(foreach exercise,$(exercises),$(eval $(call exercise_program,$(firstword \
    $(subst -, ,$(exercise))),$(exercise))))

say_that_it_builds = [ -e build/tests/exercise-$(lastword $(exercises)) ] || \
    echo 'Building the tests: some seconds, this once.'

exercise_tests = $(1:%=build/tests/exercise-%) build/tests/hostile.so

# What does not compile yet is said when it is judged.
exercises:
	@$(tools)/setup.sh build test
	@$(say_that_it_builds)
	@$(MAKE) -s $(parallel) $(call exercise_tests,$(exercises))
	@for lesson in $(lessons); do \
	    $(MAKE) -s -k $(parallel) -C $$lesson exercises >/dev/null 2>&1 & \
	done; wait
	@$(tools)/exercises.sh board

# WATCH=04-2: that one, whether it is done or not.
watch:
	@$(tools)/setup.sh build test watch
	@$(say_that_it_builds)
	@$(MAKE) -s $(parallel) $(call exercise_tests,$(exercises))
	@$(tools)/watch.sh $(WATCH)

$(exercises:%=exercise-%): exercise-%:
	@$(tools)/setup.sh build test
	@$(MAKE) -s $(parallel) $(call exercise_tests,$*)
	@$(tools)/exercises.sh judge $*

$(exercises:%=hint-%): hint-%:
	@$(tools)/exercises.sh hint $*

$(exercises:%=solution-%): solution-%:
	@$(tools)/setup.sh build test
	@$(MAKE) -s $(parallel) $(call exercise_tests,$*)
	@$(tools)/exercises.sh solution $*

$(exercises:%=reset-%): reset-%:
	@$(tools)/setup.sh test
	@$(tools)/exercises.sh reset $*

exercise-% hint-% solution-% reset-%:
	@echo 'There is no exercise $*. There are: $(exercises)'; exit 2

# Grades all exercises, or those that are named: make grade EXERCISES='01-1 04-2'
grade:
	@$(tools)/setup.sh build test grade
	@$(tools)/grade.sh $(or $(EXERCISES),$(exercises))

# Proves that it gives what it should, to good programs and to bad ones.
grade-check:
	@$(tools)/setup.sh build test grade
	@$(tools)/grade-check.sh

# make prove does for the exercises what make mistakes does for the lessons.
prove:
	@$(tools)/setup.sh build test sanitize
	@$(MAKE) -s $(parallel) $(call exercise_tests,$(or $(NAME),$(exercises)))
	@SANITIZE='$(SANITIZE)' $(tools)/exercises.sh prove

# ------------------------------------------------------- memory, under guard

# The lessons once more, copied into build/sanitize/ (a folder builds anywhere).
SANITIZE = -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined \
           -fno-sanitize-recover=all

$(numbers:%=sanitized-%): sanitized-%:
	@mkdir -p build/sanitize/$(filter $*-%,$(lessons))
	@cp -p $(filter $*-%,$(lessons))/*.[ch] $(filter $*-%,$(lessons))/Makefile \
	    build/sanitize/$(filter $*-%,$(lessons))
	@$(MAKE) -s -C build/sanitize/$(filter $*-%,$(lessons)) \
	    CFLAGS='$(SANITIZE)' all

# Lesson 05 has threads. The hostile network is left out: it stands between the
# program and pthread_cond_wait, where the thread sanitizer has to stand.
threads := 05-threads

tsan:
	@$(tools)/setup.sh build test sanitize
	@mkdir -p build/tsan/$(threads)
	@cp -p $(threads)/*.[ch] $(threads)/Makefile build/tsan/$(threads)
	@$(MAKE) -s $(parallel) build/tests/lesson-05 build/tests/hostile.so
	@$(MAKE) -s -C build/tsan/$(threads) \
	    CFLAGS='-O1 -g -fsanitize=thread' all
	@PROGRAMS=build/tsan CALM=1 PATIENCE=$(or $(PATIENCE),15) \
	    $(tools)/run.sh 05
	@PROGRAMS=build/tsan CALM=1 PATIENCE=$(or $(PATIENCE),15) \
	    ONLY=survives_sixty_four_clients_at_random $(tools)/run.sh 05

# What is freed stays unused in a quarantine; a small one, for tests that look at
# how much memory a server holds.
sanitize:
	@$(tools)/setup.sh build test sanitize
	@$(MAKE) -s $(parallel) $(numbers:%=build/tests/lesson-%) \
	    build/tests/hostile.so $(numbers:%=sanitized-%)
	@ASAN_OPTIONS=$(ASAN_OPTIONS):quarantine_size_mb=1 \
	    PROGRAMS=build/sanitize PATIENCE=$(or $(PATIENCE),15) \
	    $(tools)/run.sh $(numbers)

# Takes minutes. A small freelist for the same reason as above; without the tests
# that are slow already.
VALGRIND = valgrind -q --leak-check=full --freelist-vol=100000 \
           --error-exitcode=99

valgrind:
	@$(tools)/setup.sh build test valgrind
	@$(MAKE) -s $(parallel) $(numbers:%=build/tests/lesson-%) \
	    build/tests/hostile.so $(numbers:%=programs-%)
	@UNDER='$(VALGRIND)' LEAVE_OUT_SLOW=1 \
	    CALM=1 JOBS=2 PATIENCE=$(or $(PATIENCE),30) \
	    $(tools)/run.sh $(numbers)

# -------------------------------------------------------------------- fuzzing

# Targets are named like exercises: the lesson's number stands in front. Each is
# built with the modules of that lesson's folder. libFuzzer comes with clang.
CLANG ?= clang
FUZZ   = -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all

fuzz_targets := $(sort $(basename $(notdir $(wildcard tests/fuzz/*.c))))

# How to build build/fuzz/$(1), a target of the lesson in the folder $(2).
define fuzz_program
build/fuzz/$(1): tests/fuzz/$(1).c tests/fuzz/fuzz.h $(wildcard $(2)/*.[ch]) \
    Makefile
	@mkdir -p $$(@D)
	$$(CLANG) -std=c17 -D_GNU_SOURCE -O1 -g $$(WARNINGS) $$(FUZZ) -I$(2) \
	    $$(shell pkg-config --cflags jansson 2>/dev/null) -o $$@ $$< \
	    $$(patsubst %,$(2)/%.c,$$(shell \
	        sed -n 's/^modules *= *//p' $(2)/Makefile)) \
	    $$(shell pkg-config --libs jansson 2>/dev/null || echo -ljansson)
endef
$(foreach target,$(fuzz_targets),$(eval $(call fuzz_program,$(target),$(filter \
    $(firstword $(subst -, ,$(target)))-%,$(lessons)))))

fuzz:
	@CLANG='$(CLANG)' $(tools)/setup.sh build fuzz
	@$(MAKE) -s $(parallel) $(patsubst %,build/fuzz/%,$(or \
	    $(NAME),$(fuzz_targets)))
	@$(tools)/fuzz.sh $(or $(NAME),$(fuzz_targets))

# ------------------------------------------------------------------ measuring

build/bench/bench: tests/bench/bench.c Makefile
	@mkdir -p $(@D)
	$(CC) -std=c17 -D_GNU_SOURCE -O2 -g $(WARNINGS) \
	    $(shell pkg-config --cflags openssl 2>/dev/null) -o $@ $< \
	    $(libraries_07)

# SERVER= is measured beside ours, in TCP.
many = -m 2000 -i 0

bench:
	@$(tools)/setup.sh build demo
	@$(MAKE) -s $(parallel) build/bench/bench $(files_07) programs-05 \
	    programs-06 programs-07
	@top=$$PWD; cd "$$CALLED_FROM" && CA=$$top/build/certs/ca.pem \
	    "$$top/build/bench/bench" \
	    05-threads "$$top/05-threads/server $(many)" \
	    06-poll "$$top/06-poll/server $(many)" \
	    07-tls "$$top/07-tls/server $(many) -c $$top/build/certs/server.pem \
	        -k $$top/build/certs/server.key" \
	    $(if $(SERVER),yours '$(SERVER) $(many)')

# --------------------------------------------------- the museum of mistakes

# make mistakes proves that the tests catch each one; TIMES=20 does so often.
mistakes:
	@$(tools)/setup.sh build test
	@$(MAKE) -s $(parallel) $(numbers:%=build/tests/lesson-%) \
	    build/tests/hostile.so
	@$(tools)/mistakes.sh prove $(numbers)

$(numbers:%=mistakes-%): mistakes-%:
	@$(tools)/mistakes.sh list $*

# make mistake-04-3 is a bug hunt; there are as many as patches.
mistake_list := $(foreach number,$(numbers),$(addprefix $(number)-,\
    $(shell ls tests/mistakes/$(number)-*.patch 2>/dev/null | sed -n '=')))

$(mistake_list:%=mistake-%): mistake-%:
	@$(tools)/setup.sh build test
	@$(MAKE) -s $(parallel) build/tests/lesson-$(firstword $(subst -, ,$*)) \
	    build/tests/hostile.so
	@$(tools)/mistakes.sh hunt $(subst -, ,$*)

# ---------------------------------------------------------------- the sources

lint:
	@$(tools)/setup.sh build test lint
	@$(tools)/lint.sh

carry:
	@$(tools)/carry.sh

clean:
	@for lesson in $(lessons); do $(MAKE) -s -C $$lesson clean; done
	rm -rf build

# Keep the objects.
.SECONDARY:

.PHONY: help demo test soak exercises watch grade grade-check prove lint carry sanitize tsan valgrind fuzz bench mistakes clean $(numbers) \
    $(foreach command,demo test soak diff trace programs sanitized mistakes,\
        $(numbers:%=$(command)-%)) $(mistake_list:%=mistake-%) \
    $(foreach command,exercise hint solution reset,$(exercises:%=$(command)-%))
