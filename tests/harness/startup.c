/*
 * startup.c - makes each test start faster.
 *
 * Criterion runs every test in a process of its own, and each of them loads
 * libgit2 with all that it needs, a dozen libraries, and lets it read every
 * certificate of the machine: 12 ms of processor time, where the rest of a
 * start takes 4. Criterion calls libgit2 only to print how two buffers differ,
 * which no test here asks for (report.c prints bytes).
 *
 * So this becomes a library with libgit2's name, which is loaded in its place
 * (see the Makefile). The functions do nothing.
 */
int git_libgit2_init(void);
int git_libgit2_shutdown(void);
int git_diff_buffers(void);

int git_libgit2_init(void)
{
    return 1;
}

int git_libgit2_shutdown(void)
{
    return 0;
}

int git_diff_buffers(void)
{
    return -1;
}
