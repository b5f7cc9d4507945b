/*
 * room.c - who is in the room, and what each is told. room.h says how to use
 * it.
 *
 * New in this lesson. Lesson 04's server answered whoever asked; now one
 * request may concern everybody. All that the room does is one step after the
 * other, and each step tells everybody whom it concerns before the next one
 * begins. So all members see one and the same order of events, whoever the
 * threads behind them are.
 */
#define _XOPEN_SOURCE 700 /* for search.h */

#include "room.h"

#include <search.h>
#include <string.h>

void room_open(struct room *room, tell_function *tell)
{
    *room = (struct room){.tell = tell};
}

/* --------------------------------------------------------- telling somebody */

/* Writes the frame of a message into room->frame. Returns its length, or 0:
 * every message of ours fits into a frame, so memory must be out. */
static size_t write_frame(struct room *room, const struct message *message)
{
    size_t length = message_write(message, room->payload);
    return length == 0 ? 0 : frame_write(room->payload, length, room->frame);
}

static void tell(struct room *room, struct member *member,
                 const struct message *message)
{
    size_t length = write_frame(room, message);
    room->tell(member->connection, length == 0 ? NULL : room->frame, length);
}

/* Tells everybody but one (NULL: everybody). The frame is written once,
 * however many there are. */
static void tell_all_but(struct room *room, const struct member *one,
                         const struct message *message)
{
    size_t length = write_frame(room, message);
    const char *frame = length == 0 ? NULL : room->frame;
    for (struct member *member = room->members; member != NULL;
         member = member->next)
        if (member != one)
            room->tell(member->connection, frame, length);
}

void room_refuse(struct room *room, struct member *member, const char *reason)
{
    tell(room, member,
         &(struct message){.type = MESSAGE_ERROR,
                           .text = reason,
                           .text_length = strlen(reason)});
}

/* A message about a member, with its name. */
static struct message about(const struct member *member, enum message_type type)
{
    return (struct message){
        .type = type, .name = member->name, .name_length = member->name_length};
}

/* ---------------------------------------------------- coming, going, saying */

/*
 * The order of two members by name, for the tree that tsearch keeps. Any order
 * will do that is always the same, and in which only equal names are equal.
 */
static int compare_names(const void *left, const void *right)
{
    const struct member *a = left, *b = right;
    if (a->name_length != b->name_length)
        return a->name_length < b->name_length ? -1 : 1;
    return memcmp(a->name, b->name, a->name_length);
}

static void join(struct room *room, struct member *member,
                 const struct message *request)
{
    if (member->joined) {
        room_refuse(room, member, "you have joined already");
        return;
    }
    /* The name fits: message_check_request() has counted its code points. */
    memcpy(member->name, request->name, request->name_length);
    member->name_length = request->name_length;

    /* To look and to take the name is one step: tsearch finds the member with
     * this name, or enters the new one. Nobody comes in between, because the
     * caller holds the lock. */
    struct member **found = tsearch(member, &room->names, compare_names);
    if (found == NULL || *found != member) {
        room_refuse(room, member,
                    found == NULL ? "the server is out of memory"
                                  : "somebody in the room has this name");
        return;
    }

    member->joined = true;
    member->previous = NULL;
    member->next = room->members;
    if (room->members != NULL)
        room->members->previous = member;
    room->members = member;
    room->count++;

    struct message welcome = about(member, MESSAGE_WELCOME);
    welcome.members = (json_int_t)room->count;
    tell(room, member, &welcome);
    struct message joined = about(member, MESSAGE_JOINED);
    tell_all_but(room, member, &joined);
}

static void say(struct room *room, struct member *member,
                const struct message *request)
{
    if (!member->joined) {
        room_refuse(room, member, "join before you say something");
        return;
    }
    struct message said = about(member, MESSAGE_SAID);
    said.text = request->text;
    said.text_length = request->text_length;
    tell_all_but(room, NULL, &said);
}

void room_answer(struct room *room, struct member *member,
                 const struct message *request)
{
    if (request->type == MESSAGE_JOIN)
        join(room, member, request);
    else if (request->type == MESSAGE_SAY)
        say(room, member, request);
    else
        tell(room, member, &(struct message){.type = MESSAGE_PONG});
}

void room_leave(struct room *room, struct member *member)
{
    if (!member->joined)
        return;
    tdelete(member, &room->names, compare_names);
    if (member->previous != NULL)
        member->previous->next = member->next;
    else
        room->members = member->next;
    if (member->next != NULL)
        member->next->previous = member->previous;
    room->count--;
    member->joined = false;

    struct message left = about(member, MESSAGE_LEFT);
    tell_all_but(room, NULL, &left);
}

void room_close(struct room *room)
{
    /* Each name takes a little memory of tsearch's. */
    for (; room->members != NULL; room->members = room->members->next)
        tdelete(room->members, &room->names, compare_names);
    room->count = 0;
}
