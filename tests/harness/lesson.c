/*
 * lesson.c - what the harness has to know of the lesson that is judged. This
 * file is built for each lesson; the rest of the harness is built once.
 */
#include "inside.h"

const int lesson_number = LESSON;

#if LESSON == 7

#include "tls.h"

const struct wrapper *const wrapper = &tls_wrapper;

size_t add_options(const struct start *how, bool is_server, char **arguments)
{
    const char *const for_server[] = {"-c", certificate("server.pem"), "-k",
                                      certificate("server.key")};
    const char *const for_client[] = {"-C", certificate("ca.pem")};
    const char *const *options = is_server ? for_server : for_client;
    size_t count = how->bare ? 0 : is_server ? 4 : 2;
    for (size_t i = 0; i < count; i++)
        arguments[i] = (char *)(size_t)options[i];
    return count;
}

#else

const struct wrapper *const wrapper = NULL;

size_t add_options(const struct start *how, bool is_server, char **arguments)
{
    (void)how;
    (void)is_server;
    (void)arguments;
    return 0;
}

#endif
