/*
 * guests.c - many channels at once.
 */
#include "guests.h"
#include "inside.h"

#include <jansson.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#ifdef __linux__
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#endif

struct crowd *new_crowd(void)
{
    struct crowd *crowd = keep(sizeof *crowd);
    *crowd = (struct crowd){0};
    return crowd;
}

/* A list that grows; what it held before stays until the end of the run. */
static void *grown(const void *list, size_t count, size_t *size, size_t each)
{
    *size = *size == 0 ? 16 : 2 * *size;
    void *more = keep(*size * each);
    if (count > 0)
        memcpy(more, list, count * each);
    return more;
}

struct guest *bring_channel(struct crowd *crowd, struct channel *channel,
                            const char *name)
{
    struct guest *guest = keep(sizeof *guest);
    *guest = (struct guest){.channel = channel, .name = name};
    if (crowd->count == crowd->size)
        crowd->guests = grown(crowd->guests, crowd->count, &crowd->size,
                              sizeof crowd->guests[0]);
    crowd->guests[crowd->count++] = guest;
    return guest;
}

struct guest *bring(struct crowd *crowd, struct program *server,
                    const char *name)
{
    return bring_channel(crowd, open_channel(server), name);
}

void tell(struct guest *guest, const char *json)
{
    add_message(&guest->to_send, json);
}

/* -------------------------------------------------------------- what comes */

static const char *joined_text(const char *first, const char *name,
                               const char *between, const char *last)
{
    size_t lengths[] = {strlen(first), strlen(name), strlen(between),
                        strlen(last)};
    const char *parts[] = {first, name, between, last};
    char *text = keep(lengths[0] + lengths[1] + lengths[2] + lengths[3]);
    size_t at = 0;
    for (size_t i = 0; i < 4; i++) {
        memcpy(text + at, parts[i], lengths[i]);
        at += lengths[i];
    }
    text[at] = '\0';
    return text;
}

static const char *string_of(const json_t *message, const char *key)
{
    const char *string = json_string_value(json_object_get(message, key));
    return string == NULL ? "(no string)" : string;
}

static const char *event_of(const json_t *message)
{
    const char *type = string_of(message, "type");
    const char *name = string_of(message, "name");
    if (strcmp(type, "said") == 0)
        return joined_text("said ", name, ": ", string_of(message, "text"));
    if (strcmp(type, "welcome") == 0) {
        char number[32];
        snprintf(number, sizeof number, "%.0f",
                 json_number_value(json_object_get(message, "members")));
        return joined_text("welcome ", name, " ", number);
    }
    if (strcmp(type, "joined") == 0 || strcmp(type, "left") == 0)
        return joined_text(type, " ", name, "");
    return joined_text(type, "", "", "");
}

static void take_event(void *context, const char *payload, size_t length)
{
    struct guest *guest = context;
    json_t *message = json_loadb(payload, length, JSON_ALLOW_NUL, NULL);
    if (message == NULL || !json_is_string(json_object_get(message, "type")))
        judge_payload(guest->channel, payload, length);
    if (guest->count == guest->size)
        guest->heard = grown(guest->heard, guest->count, &guest->size,
                             sizeof guest->heard[0]);
    guest->heard[guest->count++] = (struct heard){event_of(message)};
    json_decref(message);
}

/* Whether anything moved. */
static bool serve_guest(struct guest *guest)
{
    enum { AT_ONCE = 256 };
    bool moved = false;
    while (guest->sent < guest->to_send.length) {
        ssize_t more = send_at_once(guest->channel,
                                    guest->to_send.bytes + guest->sent,
                                    guest->to_send.length - guest->sent);
        if (more < 0)
            guest->sent = guest->to_send.length; /* its reader has gone */
        if (more <= 0)
            break;
        guest->sent += (size_t)more;
        moved = true;
    }
    if (guest->sent == guest->to_send.length)
        guest->sent = guest->to_send.length = 0;
    if (guest->is_deaf || guest->is_over)
        return moved;
    size_t taken = take_payloads(guest->channel, take_event, guest, AT_ONCE);
    if (taken < AT_ONCE && channel_is_over(guest->channel)) {
        guest->is_over = true;
        guest->ended_at = now();
        moved = true;
    }
    return moved || taken > 0;
}

void attend(struct crowd *crowd, double until)
{
    struct pollfd *watched = NULL;
    for (;;) {
        bool moved = false;
        for (size_t i = 0; i < crowd->count; i++) {
            struct guest *guest = crowd->guests[i];
            if (!guest->has_gone && serve_guest(guest))
                moved = true;
        }
        if (moved || now() >= until)
            break;
        if (watched == NULL) {
            watched = malloc((crowd->count + 1) * sizeof *watched);
            if (watched == NULL)
                abort();
        }
        size_t count = 0;
        bool ready = false;
        for (size_t i = 0; i < crowd->count; i++) {
            struct guest *guest = crowd->guests[i];
            short events = 0;
            if (guest->has_gone)
                continue;
            if (!guest->is_deaf && !guest->is_over)
                events = POLLIN;
            if (guest->sent < guest->to_send.length)
                events |= POLLOUT;
            if (events == 0)
                continue;
            short needed = channel_events(guest->channel, events);
            ready = ready || needed == 0;
            watched[count++] = (struct pollfd){
                channel_descriptor(guest->channel), needed, 0};
        }
        if (ready)
            break;
        wait_on_many(watched, count, until);
    }
    free(watched);
    wait_on(-1, 0, 0); /* the programs' pipes */
}

void attend_for(struct crowd *crowd, double seconds)
{
    double until = moment_in(seconds);
    while (now() < until)
        attend(crowd, until);
}

/* ------------------------------------------------------------- for reports */

static const char *shortened(const char *event)
{
    return strlen(event) <= 70 ? event
                               : text_of("%.40s... (%s)", event,
                                         count_of(strlen(event), "byte"));
}

/* What a guest heard around number `at`. */
static const char *heard_around(const struct guest *guest, size_t at)
{
    size_t from = at < 4 ? 0 : at - 4;
    size_t to = at + 3 < guest->count ? at + 3 : guest->count;
    const char *text = text_of("%s heard", guest->name);
    const char *rest = at < guest->count || guest->has_gone
                           ? ""
                           : unfinished_frame(guest->channel);
    if (guest->count == 0)
        return text_of("%s nothing.%s", text, rest);
    for (size_t i = from; i < to; i++)
        text = text_of("%s%s\n    %s%zu. %s", text,
                       i == from && from > 0 ? "\n    ..." : "",
                       i == at ? "> " : "  ", i + 1,
                       shortened(guest->heard[i].event));
    if (to < guest->count)
        text = text_of("%s\n    ... and %zu more", text, guest->count - to);
    else if (at >= guest->count)
        text = text_of("%s\n    > and then %s.%s", text,
                       guest->is_over ? "the connection ended" : "nothing",
                       rest);
    return text;
}

/* When the server ends the connection of somebody who has done nothing wrong,
 * and does so on the hostile network only, its faults are the usual cause. */
static void blame_network(const struct crowd *crowd)
{
    if (hostile_seed() == 0)
        return;
    for (size_t i = 0; i < crowd->count; i++) {
        const struct guest *guest = crowd->guests[i];
        bool refused = guest->count > 0 &&
                       strcmp(guest->heard[guest->count - 1].event, "error") ==
                           0;
        if (guest->is_over && !guest->has_ended_side && !guest->has_gone &&
            !refused)
            usual_cause("On this network calls are refused now and then: "
                        "EINTR, or EAGAIN although poll() said \"ready\". The "
                        "connection is as good as before: call again, or poll "
                        "again. And fewer bytes than were asked for are no "
                        "end. With threads: pthread_cond_wait() returns now "
                        "and then though nobody signalled; only a loop around "
                        "it knows.");
    }
}

/* ------------------------------------------------------------------ waiting */

static bool has_enough(const struct guest *guest)
{
    if (guest->has_gone)
        return true;
    if (guest->sent < guest->to_send.length)
        return false;
    return guest->is_deaf || guest->count >= guest->wanted;
}

_Noreturn static void fail_hearing(struct crowd *crowd, const char *what,
                                   double seconds)
{
    const char *text = "";
    size_t satisfied = 0, shown = 0;
    for (size_t i = 0; i < crowd->count; i++) {
        const struct guest *guest = crowd->guests[i];
        if (has_enough(guest) && !guest->is_over) {
            satisfied += !guest->has_gone;
            continue;
        }
        if (guest->has_gone || shown++ >= 5)
            continue;
        if (guest->sent < guest->to_send.length)
            text = text_of("%s\n%s could send %zu of %zu bytes.", text,
                           guest->name, guest->sent, guest->to_send.length);
        text = text_of("%s\n%s", text, heard_around(guest, guest->count));
    }
    blame_network(crowd);
    fail_test("Expected: everybody hears %s.\n"
              "%s%s.%s%s",
              what,
              seconds > 0 ? text_of("For %.1f s nothing of that came", seconds)
                          : "A connection ended before that",
              state_of_programs(), text,
              satisfied == 0 ? ""
                             : text_of("\n(%zu others have heard all that "
                                       "they wait for.)",
                                       satisfied));
}

/* How much everybody has sent, and heard of what it wants: changes as long as
 * anything moves that is waited for. */
static size_t progress_of(const struct crowd *crowd)
{
    size_t sum = 0;
    for (size_t i = 0; i < crowd->count; i++) {
        const struct guest *guest = crowd->guests[i];
        sum += guest->count < guest->wanted ? guest->count : guest->wanted;
        sum += guest->sent + guest->is_over;
    }
    return sum;
}

/* Whether all have enough; `ended`: no, and a connection is over. */
static bool listen_to_all(struct crowd *crowd, bool *ended)
{
    double until = moment_in(patience());
    size_t before = progress_of(crowd);
    for (;;) {
        bool all = true;
        *ended = false;
        for (size_t i = 0; i < crowd->count; i++) {
            const struct guest *guest = crowd->guests[i];
            if (has_enough(guest))
                continue;
            all = false;
            *ended = *ended || guest->is_over;
        }
        if (all || *ended || now() >= until)
            return all;
        attend(crowd, until);
        size_t after = progress_of(crowd);
        if (after != before)
            until = moment_in(patience());
        before = after;
    }
}

bool hears_all(struct crowd *crowd)
{
    bool ended;
    return listen_to_all(crowd, &ended);
}

void hear_all(struct crowd *crowd, const char *what)
{
    bool ended;
    if (!listen_to_all(crowd, &ended))
        fail_hearing(crowd, what, ended ? 0 : patience());
}

bool hears(struct crowd *crowd, struct guest *guest, size_t from,
           const char *event, double seconds)
{
    double until = moment_in(seconds);
    size_t seen = from;
    for (;;) {
        for (; seen < guest->count; seen++) {
            if (strcmp(guest->heard[seen].event, event) == 0)
                return true;
        }
        if (guest->is_over || now() >= until)
            return false;
        attend(crowd, until);
    }
}

void hear_the_end(struct crowd *crowd, struct guest *guest)
{
    double until = moment_in(patience());
    while (!guest->is_over && now() < until)
        attend(crowd, until);
    if (!guest->is_over)
        fail_test("Expected: the server closes the connection of %s.\n"
                  "It has not in %.1f s%s.\n%s",
                  guest->name, patience(), state_of_programs(),
                  heard_around(guest, guest->count));
}

void expect_heard(struct crowd *crowd, struct guest *guest, const char *event)
{
    double until = moment_in(patience());
    while (guest->count == guest->taken && !guest->is_over && now() < until)
        attend(crowd, until);
    if (guest->count > guest->taken &&
        strcmp(guest->heard[guest->taken].event, event) == 0) {
        note("%s heard: %s", guest->name, shortened(event));
        guest->taken++;
        return;
    }
    size_t at = guest->taken;
    attend_for(crowd, 0.1);
    blame_network(crowd);
    fail_test("Expected: %s hears \"%s\"%s.\n"
              "What came: %s%s.\n%s",
              guest->name, shortened(event), at == 0 ? "" : " next",
              guest->count > at
                  ? text_of("\"%s\"", shortened(guest->heard[at].event))
              : guest->is_over ? "the end of the connection"
                               : text_of("nothing for %.1f s", patience()),
              state_of_programs(), heard_around(guest, at));
}

static bool is_in_the_room(const struct guest *guest)
{
    if (guest->has_gone || guest->is_deaf || guest->is_over)
        return false;
    for (size_t i = 0; i < guest->count; i++) {
        if (strncmp(guest->heard[i].event, "welcome ", 8) == 0)
            return true;
    }
    return false;
}

void everybody_hears(struct crowd *crowd, const struct guest *but,
                     const char *event)
{
    for (size_t i = 0; i < crowd->count; i++) {
        struct guest *guest = crowd->guests[i];
        if (guest != but && is_in_the_room(guest))
            expect_heard(crowd, guest, event);
    }
}

void nobody_hears(struct crowd *crowd, double seconds)
{
    attend_for(crowd, seconds);
    for (size_t i = 0; i < crowd->count; i++) {
        const struct guest *guest = crowd->guests[i];
        if (guest->has_gone || guest->is_deaf || guest->count == guest->taken)
            continue;
        fail_test("Expected: %s hears nothing more.\n"
                  "What came: \"%s\".\n%s",
                  guest->name, shortened(guest->heard[guest->taken].event),
                  heard_around(guest, guest->taken));
    }
    note("nobody heard anything more for %.0f ms", seconds * 1e3);
}

size_t times_heard(const struct guest *guest, size_t from, const char *event)
{
    size_t times = 0;
    for (size_t i = from; i < guest->count; i++)
        times += strcmp(guest->heard[i].event, event) == 0;
    return times;
}

/* -------------------------------------------------------- coming and going */

struct guest *enter_room(struct crowd *crowd, struct program *server,
                         const char *name, int members)
{
    struct guest *guest = bring(crowd, server, name);
    note("%s joins", name);
    tell(guest, join_as(name));
    expect_heard(crowd, guest, text_of("welcome %s %d", name, members));
    return guest;
}

void walk_out(struct guest *guest)
{
    note("%s closes", guest->name);
    guest->has_gone = true;
    close_channel(guest->channel);
}

void break_off(struct guest *guest)
{
    note("%s breaks off (a reset)", guest->name);
    guest->has_gone = true;
    reset_channel(guest->channel);
}

void say_goodbye(struct guest *guest)
{
    note("%s half-closes", guest->name);
    guest->has_ended_side = true;
    guest->sent = guest->to_send.length = 0;
    half_close_channel(guest->channel);
}

void depart(struct crowd *crowd, struct guest *guest)
{
    say_goodbye(guest);
    hear_the_end(crowd, guest);
    guest->has_gone = true;
    close_channel(guest->channel);
}

/* --------------------------------------------------------------- one order */

static bool is_for_all(const char *event)
{
    return strncmp(event, "said ", 5) == 0 ||
           strncmp(event, "joined ", 7) == 0 || strncmp(event, "left ", 5) == 0;
}

static size_t place_of(const struct guest *guest, size_t from,
                       const char *event)
{
    for (size_t i = from; i < guest->count; i++) {
        if (strcmp(guest->heard[i].event, event) == 0)
            return i;
    }
    return guest->count;
}

/* The next event that goes to everybody, from number `at` on. */
static size_t next_for_all(const struct guest *guest, size_t at)
{
    while (at < guest->count && !is_for_all(guest->heard[at].event))
        at++;
    return at;
}

/* A message is missing in what a guest heard, from number `its` on. */
static void why_it_never_came(const struct guest *guest, size_t its)
{
    usual_cause("A message that did not fit at once was dropped, or the rest "
                "of a partial write forgotten; or the list of members was "
                "walked while another thread changed it, without a lock.");
    if (its < guest->count)
        return;
    if (!guest->is_over)
        usual_cause("What is to be sent waits in a queue, and nobody sends it. "
                    "With threads: its writer waits for a signal that has come "
                    "already (a lost wake-up: look at the queue, under the "
                    "lock, before each wait). With poll(): POLLOUT is not "
                    "asked for although bytes wait. Or the message was "
                    "dropped, or another thread wrote over it without a lock.");
    else if (guest->has_ended_side)
        usual_cause("End of file is taken for a reason to close at once, or "
                    "close() ends a connection for which bytes still wait in a "
                    "queue: who half-closes still reads.");
}

/* Says which kind of mistake it is, and ends the test. */
_Noreturn static void fail_order(const struct crowd *crowd, size_t at,
                                 const struct guest *other, size_t its)
{
    const struct guest *first = crowd->guests[0];
    const char *due = at < first->count ? first->heard[at].event : NULL;
    const char *came = its < other->count ? other->heard[its].event : NULL;
    const char *kind;
    if (came != NULL && place_of(other, 0, came) < its) {
        kind = text_of("\"%s\" came to %s twice", shortened(came), other->name);
        usual_cause("A message is put into somebody's queue twice, or bytes "
                    "that send() had taken already are sent once more, or two "
                    "threads write into one buffer without a lock.");
    } else if (due != NULL && place_of(other, its, due) == other->count) {
        kind = text_of("\"%s\" never came to %s", shortened(due), other->name);
        why_it_never_came(other, its);
    } else if (came != NULL && place_of(first, 0, came) == first->count) {
        kind = text_of("\"%s\" came to %s, and to %s never", shortened(came),
                       other->name, first->name);
        usual_cause("Somebody heard what happened before its welcome or after "
                    "it had left, or a message did not go to everybody. With "
                    "threads: two of them tell the room something at the same "
                    "time, without a lock.");
    } else {
        kind = text_of("%s and %s heard the same events in another order",
                       first->name, other->name);
        usual_cause("Two speakers are served at the same time, and each one's "
                    "text goes to the members one after the other. To give all "
                    "the same order, an event has to be put into all queues "
                    "before the next one is put into any.");
    }
    blame_network(crowd);
    fail_test("Expected: everybody sees one and the same order of events.\n"
              "%s.\n%s\n%s",
              kind, heard_around(first, at), heard_around(other, its));
}

static void compare_with_first(const struct crowd *crowd,
                               const struct guest *other, bool is_whole)
{
    const struct guest *first = crowd->guests[0];
    const char *came = text_of("joined %s", other->name);
    const char *went = text_of("left %s", other->name);
    size_t at = place_of(first, 0, came);
    size_t its = 0;
    while (its < other->count &&
           strncmp(other->heard[its].event, "welcome ", 8) != 0)
        its++;
    if (its == other->count)
        return; /* it never got in */
    if (at == first->count) {
        blame_network(crowd);
        fail_test("Expected: everybody in the room hears \"%s\".\n"
                  "%s was welcomed, and %s never heard of it.\n%s",
                  came, other->name, first->name,
                  heard_around(first, first->count));
    }
    for (size_t i = 0; i < its; i++) {
        if (is_for_all(other->heard[i].event)) {
            usual_cause("The new member was put on the list of those who hear "
                        "everything before its welcome was sent.");
            fail_test("Expected: a member sees everything from its welcome on, "
                      "and nothing from before.\n"
                      "Before its welcome %s heard \"%s\".\n%s",
                      other->name, shortened(other->heard[i].event),
                      heard_around(other, i));
        }
    }
    at = next_for_all(first, at + 1);
    its = next_for_all(other, its + 1);
    while (at < first->count && strcmp(first->heard[at].event, went) != 0) {
        if (its == other->count && !is_whole)
            return;
        if (its == other->count ||
            strcmp(first->heard[at].event, other->heard[its].event) != 0)
            fail_order(crowd, at, other, its);
        at = next_for_all(first, at + 1);
        its = next_for_all(other, its + 1);
    }
    if (its < other->count)
        fail_order(crowd, at, other, its);
}

/* Everybody's welcome tells how many were in the room at that moment. */
static void count_members(const struct crowd *crowd, const struct guest *first)
{
    int members = 1;
    for (size_t i = 0; i < first->count; i++) {
        const char *event = first->heard[i].event;
        if (strncmp(event, "left ", 5) == 0)
            members--;
        if (strncmp(event, "joined ", 7) != 0)
            continue;
        members++;
        for (size_t j = 0; j < crowd->count; j++) {
            const struct guest *guest = crowd->guests[j];
            if (strcmp(guest->name, event + 7) != 0)
                continue;
            const char *due = text_of("welcome %s %d", guest->name, members);
            size_t its = 0;
            while (its < guest->count &&
                   strncmp(guest->heard[its].event, "welcome ", 8) != 0)
                its++;
            if (its == guest->count ||
                strcmp(guest->heard[its].event, due) == 0)
                continue;
            usual_cause("The members are counted at another moment than that "
                        "of the join: before it, or later, when others have "
                        "come or gone; or those who left are not counted "
                        "off.");
            fail_test("Expected: `members` in the welcome counts who is in the "
                      "room, the new one included.\n"
                      "By what %s heard, %d are in the room when %s joins, "
                      "but: \"%s\".\n%s",
                      first->name, members, guest->name,
                      guest->heard[its].event, heard_around(first, i));
        }
    }
}

void expect_one_order(struct crowd *crowd)
{
    const struct guest *first = crowd->guests[0];
    for (size_t i = 1; i < crowd->count; i++) {
        const struct guest *guest = crowd->guests[i];
        bool is_whole = !guest->has_gone && !guest->is_deaf;
        /* One that departed has read to the end. */
        if (guest->has_gone && guest->is_over && !was_reset(guest->channel))
            is_whole = true;
        compare_with_first(crowd, guest, is_whole);
    }
    count_members(crowd, first);
}

/* ------------------------------------------------------------- observation */

#ifdef __linux__

size_t bytes_under_way(struct channel *channel)
{
    struct sockaddr_in here, there;
    socklen_t size = sizeof here;
    int descriptor = channel_descriptor(channel);
    if (getsockname(descriptor, (struct sockaddr *)&here, &size) < 0 ||
        here.sin_family != AF_INET)
        return 0;
    size = sizeof there;
    if (getpeername(descriptor, (struct sockaddr *)&there, &size) < 0)
        return 0;

    /* The kernel is asked about one socket, ss(8) does the same. To read
     * /proc/net/tcp takes long where many connections have been. */
    struct {
        struct nlmsghdr header;
        struct inet_diag_req_v2 request;
    } question = {
        .header = {.nlmsg_len = sizeof question,
                   .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                   .nlmsg_flags = NLM_F_REQUEST},
        .request = {.sdiag_family = AF_INET,
                    .sdiag_protocol = IPPROTO_TCP,
                    .idiag_states = ~0u,
                    .id = {.idiag_sport = there.sin_port,
                           .idiag_dport = here.sin_port,
                           .idiag_src = {there.sin_addr.s_addr},
                           .idiag_dst = {here.sin_addr.s_addr},
                           .idiag_cookie = {INET_DIAG_NOCOOKIE,
                                            INET_DIAG_NOCOOKIE}}},
    };
    union {
        struct nlmsghdr header;
        char bytes[2048];
    } answer;
    size_t waiting = 0;
    int asking = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC,
                        NETLINK_SOCK_DIAG);
    if (asking < 0)
        return 0;
    if (send(asking, &question, sizeof question, 0) == sizeof question &&
        recv(asking, &answer, sizeof answer, 0) >=
            (ssize_t)NLMSG_SPACE(sizeof(struct inet_diag_msg)) &&
        answer.header.nlmsg_type == SOCK_DIAG_BY_FAMILY) {
        struct inet_diag_msg *found = NLMSG_DATA(&answer.header);
        waiting = found->idiag_wqueue;
    }
    close(asking);
    return waiting;
}

enum { MOST_PROCESSES = 1024 };

size_t mappings_of(struct program *program)
{
    pid_t members[MOST_PROCESSES];
    char states[MOST_PROCESSES];
    size_t count = members_of_group(program->pid, members, states,
                                    MOST_PROCESSES);
    size_t lines = 0;
    for (size_t i = 0; i < count; i++) {
        FILE *file = fopen(text_of("/proc/%d/maps", (int)members[i]), "re");
        for (int c; file != NULL && (c = getc(file)) != EOF;)
            lines += c == '\n';
        if (file != NULL)
            fclose(file);
    }
    return lines;
}

bool limit_address_space(struct program *program, size_t more)
{
    FILE *file = fopen(text_of("/proc/%d/statm", (int)program->pid), "re");
    size_t pages = 0;
    bool known = file != NULL && fscanf(file, "%zu", &pages) == 1;
    if (file != NULL)
        fclose(file);
    size_t bytes = pages * (size_t)sysconf(_SC_PAGESIZE) + more;
    struct rlimit limit = {.rlim_cur = bytes, .rlim_max = RLIM_INFINITY};
    if (!known || prlimit(program->pid, RLIMIT_AS, &limit, NULL) < 0)
        return false;
    note("%s may have %zu KiB of address space more than now, and it has %zu",
         program->name, more >> 10, (bytes - more) >> 10);
    return true;
}

void lift_address_space(struct program *program)
{
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
    prlimit(program->pid, RLIMIT_AS, &limit, NULL);
    note("%s may have as much address space as it likes", program->name);
}

static bool raise_descriptors(pid_t process, size_t count)
{
    struct rlimit limit;
    if (prlimit(process, RLIMIT_NOFILE, NULL, &limit) < 0)
        return false;
    if (limit.rlim_cur >= count)
        return true;
    limit.rlim_cur = count;
    if (limit.rlim_max < count)
        limit.rlim_max = count; /* root may */
    return prlimit(process, RLIMIT_NOFILE, &limit, NULL) == 0;
}

bool allow_descriptors(struct program *program, size_t count)
{
    pid_t members[MOST_PROCESSES];
    char states[MOST_PROCESSES];
    size_t processes = members_of_group(program->pid, members, states,
                                        MOST_PROCESSES);
    if (!raise_descriptors(getpid(), count))
        return false;
    for (size_t i = 0; i < processes; i++) {
        if (!raise_descriptors(members[i], count))
            return false;
    }
    return true;
}

#else

size_t bytes_under_way(struct channel *channel)
{
    return channel == NULL;
}

size_t mappings_of(struct program *program)
{
    return program == NULL;
}

bool limit_address_space(struct program *program, size_t more)
{
    return program == NULL && more == 0;
}

void lift_address_space(struct program *program)
{
    (void)program;
}

bool allow_descriptors(struct program *program, size_t count)
{
    return program == NULL && count == 0;
}

#endif
