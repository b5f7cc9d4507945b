/*
 * every.h - what the tests that every lesson shares want from the lesson.
 *
 * every-server.c and every-client.c judge what the contract promises of every
 * program. What goes over the wire differs from lesson to lesson: the file
 * lesson-NN.c supplies it in these functions.
 */
#ifndef EVERY_H
#define EVERY_H

#include "harness.h"

/* Sends what a client sends in one small exchange, to its end: where the
 * lesson's client half-closes, it half-closes. */
void send_request(struct peer *client);

/* Fails unless the answer to send_request comes; where the lesson's server
 * then closes, waits for that too. */
void expect_answer(struct peer *client);

/* One exchange of the largest size that the lesson allows, to its end. */
void exchange_much(struct peer *client);

/* Types what a client needs to begin an exchange; where it needs the end of
 * its input for that, ends it. */
void give_input(struct program *client);

/* Plays the server for a client that has got its input, on the connection
 * that came, until the client has ended with status 0. */
void converse(struct program *client, struct peer *server_side);

/* Plays the server for a client that has got its input, so that the client has
 * something to print, and closes. */
void answer_and_close(struct peer *server_side);

/* Clients come to a server that has no descriptors left, until it says so;
 * fails when it does not. They are the test's to close; returns how many. */
enum { MOST_WAITING = 16 };
size_t ask_for_descriptors(struct program *server,
                           struct peer *clients[MOST_WAITING]);

#endif
