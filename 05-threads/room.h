/*
 * room.h - who is in the room, and what each is told.
 *
 * No socket and no lock in sight. The caller brings both: a function through
 * which a member is told something, and, where there are threads, one lock
 * that it holds during every call. So the same room serves a server with
 * threads, one that polls and one inside TLS.
 */
#ifndef ROOM_H
#define ROOM_H

#include "message.h"

#include <stdbool.h>
#include <stddef.h>

/* One who may be in the room, a part of the caller's connection. The caller
 * sets `connection`, all else is zero at first and the room's business. */
struct member {
    void *connection; /* handed to `tell` */
    bool joined;
    char name[4 * NAME_MAX_CODE_POINTS]; /* UTF-8, no C string */
    size_t name_length;
    struct member *previous, *next; /* in the room's list */
};

/*
 * How the room tells somebody something: a function of the caller's that takes
 * the bytes of one frame for this connection. It must not wait, and must not
 * call the room. A frame that is NULL could not be written, because memory is
 * out: who does not get it is out of step, and should be disconnected.
 */
typedef void tell_function(void *connection, const char *frame, size_t length);

struct room {
    tell_function *tell;
    struct member *members; /* a list, in no order that matters */
    size_t count;
    void *names; /* the same members, to be found by name: see tsearch(3) */
    char payload[PAYLOAD_MAX]; /* what is being told */
    char frame[FRAME_MAX];
};

/* Makes an empty room, to be ended with room_close(). It is some 130 KB large:
 * not for a thread's stack. */
void room_open(struct room *room, tell_function *tell);

/* Gives back what the room needed to know who is in, and tells nobody: the
 * server ends. The members stay their owners'. */
void room_close(struct room *room);

/*
 * Does what somebody asks, in the room or not yet, and tells everybody whom it
 * concerns; who asked gets exactly one answer. message_check_request() must
 * have accepted the request.
 */
void room_answer(struct room *room, struct member *member,
                 const struct message *request);

/* Tells somebody an error, a short sentence in UTF-8. */
void room_refuse(struct room *room, struct member *member, const char *reason);

/*
 * Takes somebody out of the room, and tells all others. The name is free
 * again, and the room knows nothing of this member any more. Does nothing for
 * one who is not in the room.
 */
void room_leave(struct room *room, struct member *member);

#endif
