"""Which lines of a log look like an error: those of the usual tools, and not what only mentions errors."""

import pytest

from apps.jobs.selectors.log_search import errors_in

ERRORS = """
main.c:3:5: error: expected ';'
error[E0308]: mismatched types
src/x.ts(3,5): error TS2322: Type
src/x.ts:3:5 - error TS2322: Type
Foo.cs(3,4): error CS1002: ; expected
java.lang.NullPointerException: x
Exception in thread "main" java.lang.X
AssertionError
ValueError: bad
Traceback (most recent call last):
[ERROR] Failed to execute goal
[ERROR] Tests run: 3, Failures: 1, Errors: 0
12:00:01 ERROR com.foo.Bar - no
ERROR tests/x.py - ImportError
ERROR: could not connect
E   assert 1 == 2
FAILED tests/x.py::test - assert
FAILED (errors=1)
--- FAIL: TestX (0.00s)
    --- FAIL: TestX/sub (0.00s)
FAIL	example.com/pkg	0.1s
FAIL src/x.test.js
FAIL: test_x (m.T)
not ok 3 - adds
  ● Suite › adds
    ✕ adds (5 ms)
 × adds
✖ 3 problems (3 errors, 0 warnings)
> Task :test FAILED
BUILD FAILED in 3s
[INFO] BUILD FAILURE
Failed to compile.
make: *** [Makefile:3: all] Error 2
make[1]: *** [all] Error 2
npm ERR! code ELIFECYCLE
npm error code 1
bash: foo: command not found
sh: 1: foo: not found
Process completed with exit code 1.
exit status 2
panic: runtime error: index out of range
fatal: not a git repository
Segmentation fault (core dumped)
Killed
  <failure message="x">
::error file=a.py,line=3::no
##[error]no
── step 2/2: test · exit code 3 after 1.5 s
error: 0 tests ran, which is an error
Error: Cannot find module 'x'
""".strip("\n").split("\n")

NONE = """
0 errors
Found 0 errors.
error: 0
error: 0, warnings: 3
errors=0
Errors: 0
no error: all fine
error: none
"error": null,
0 ERROR 0 FAILED
Tests run: 3, Failures: 0, Errors: 0, Skipped: 0
[INFO] Tests run: 3, Failures: 0, Errors: 0
FAILED 0
<testsuite errors="0" failures="0">
not ok 4 # TODO later
  ● Console
── $ grep "error: x" file
── > exit code 3
+ grep 'error: x'
── step 1/2: check error: handling
── step 1/2: lint · exit code 0 after 0.1 s
test_error_handling PASSED
tests/errors.py .... [100%]
exit code 0
exited with code 0
-Werror
on_error: continue
✖ 0 problems
ok 3 - fails with error
error_count: 0
PASS src/error.test.js
compiling errors.c
download 100% errors 0
""".strip("\n").split("\n")


@pytest.mark.parametrize("together", [True, False])
def test_an_error_is_recognised_and_a_mention_of_errors_is_not(together: bool) -> None:
    for lines, expected in ((ERRORS, ERRORS), (NONE, [])):
        blocks = [lines] if together else [[line] for line in lines]
        assert [block[place] for block in blocks for place in errors_in(block)] == expected
