/*
 * guests.h - many channels at once, for the tests of a room for many.
 *
 * A crowd listens to all its guests at the same time: whenever the test waits
 * for one of them, what comes for the others is taken in as well. So a server
 * that is held up by somebody is held up by somebody whom the test chose, never
 * by one whom the test forgot to listen to.
 *
 * What a guest hears is kept as a list of short texts, one for each message:
 * "welcome ada 3", "joined ada", "said ada: hello", "left ada", "pong",
 * "error". So two guests have heard the same when their lists are equal.
 */
#ifndef GUESTS_H
#define GUESTS_H

#include "messages.h"

struct heard {
    const char *event;
};

struct guest {
    struct channel *channel;
    const char *name;
    struct heard *heard;
    size_t count;           /* of what it has heard */
    size_t size;            /* of the list */
    size_t taken;           /* of these, expect_heard() has seen so many */
    size_t wanted;          /* hear_all() waits until it has heard so many */
    struct stretch to_send; /* goes out while the crowd listens */
    size_t sent;
    bool has_ended_side; /* half-closed: it sends nothing more */
    bool is_deaf;        /* the test does not read what comes for it */
    bool is_over;        /* its connection has ended */
    double ended_at;     /* and then */
    bool has_gone; /* the test has closed it, or wants to hear no more of it */
};

struct crowd {
    struct guest **guests; /* in the order in which they came */
    size_t count;
    size_t size;
};

struct crowd *new_crowd(void);

/* A connection that has not joined, or that the test has opened itself. */
struct guest *bring(struct crowd *crowd, struct program *server,
                    const char *name);
struct guest *bring_channel(struct crowd *crowd, struct channel *channel,
                            const char *name);

/* Brings a guest who joins, and waits for the welcome. What the others hear of
 * it, expect_heard() has to take. */
struct guest *enter_room(struct crowd *crowd, struct program *server,
                         const char *name, int members);

/* Adds to what the guest sends. It goes out, as fast as the server takes it,
 * while the crowd listens. */
void tell(struct guest *guest, const char *json);

/* The end of a guest's connection, in three ways; the crowd forgets it. */
void walk_out(struct guest *guest);  /* close */
void break_off(struct guest *guest); /* reset */
/* Half-closes, and goes on listening. */
void say_goodbye(struct guest *guest);
/* Half-closes, listens until the server has closed too, and closes. What came
 * stays in the list. */
void depart(struct crowd *crowd, struct guest *guest);

/* Listens and sends until something has come, at most until then. */
void attend(struct crowd *crowd, double until);
void attend_for(struct crowd *crowd, double seconds);

/* Until everybody who is listened to has sent all it had to send and heard as
 * much as it wants; fails when nothing comes any more. `what` ends the sentence
 * "Expected: everybody hears ...". */
void hear_all(struct crowd *crowd, const char *what);

/* The same; false where hear_all() fails. */
bool hears_all(struct crowd *crowd);

/* Until a guest has heard this, or `seconds` are over: whether it has. Looks at
 * what it has heard from number `from` on. */
bool hears(struct crowd *crowd, struct guest *guest, size_t from,
           const char *event, double seconds);

/* Until its connection has ended; fails when it does not. */
void hear_the_end(struct crowd *crowd, struct guest *guest);

/* The next thing that a guest has heard is this one; waits for it. */
void expect_heard(struct crowd *crowd, struct guest *guest, const char *event);

/* The same for everybody in the room but one (NULL: for all). Guests that have
 * not joined, are deaf or have gone do not count. */
void everybody_hears(struct crowd *crowd, const struct guest *but,
                     const char *event);

/* Nobody hears anything more for so long. */
void nobody_hears(struct crowd *crowd, double seconds);

/* How often a guest has heard this, from number `from` on. */
size_t times_heard(const struct guest *guest, size_t from, const char *event);

/*
 * Fails unless all have heard one and the same. The first guest must have been
 * in the room before everybody else and until the end; what each of the others
 * heard has to be a stretch of what the first one heard: from the moment of its
 * own welcome to that of its own `left`, or to the end. Every event must be
 * unique. Where a connection broke off, what was heard may end early. Pongs
 * and errors, which go to one guest alone, are left out. The `members` of every
 * welcome have to agree with the order too.
 */
void expect_one_order(struct crowd *crowd);

/* How many bytes wait in the kernel at the server's end of a connection over
 * IPv4, to be sent or to be acknowledged (Linux; elsewhere 0). */
size_t bytes_under_way(struct channel *channel);

/* How many pieces the memory of the program and its children has (the lines of
 * /proc/N/maps): the stack of a thread that nobody joined is one that stays. */
size_t mappings_of(struct program *program);

/* Lets the program have so many bytes more of address space than it has now,
 * and as many as it likes again. False when that cannot be done here. */
bool limit_address_space(struct program *program, size_t more);
void lift_address_space(struct program *program);

/* Lets the program, and the test, have so many descriptors. False when the hard
 * limit is lower. */
bool allow_descriptors(struct program *program, size_t count);

#endif
