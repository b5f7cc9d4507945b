/*
 * 05-3.c - judges exercise 05-3: a deadlock and a data race, mended.
 */
#include "messages.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define READ "05-threads/README.md, \"Exercises\""

/* A client, and the answers that have come for it. */
struct client {
    struct program *server;
    struct peer *peer;
    struct stretch text;
    bool in_line, is_last; /* in the last line of an answer */
    size_t answers;        /* that are whole */
};

static void add_piece(struct client *client, const char *piece, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (!client->in_line) /* the last line begins with no digit */
            client->is_last = piece[i] < '0' || piece[i] > '9';
        client->in_line = piece[i] != '\n';
        client->answers += !client->in_line && client->is_last;
    }
    add_bytes(&client->text, piece, length);
}

/* Waits until so many answers have come, as long as anybody in the server
 * works: one that owes an answer, and all of whose threads sleep, will not give
 * it any more. */
static void hear(struct client *client, size_t answers)
{
    char piece[65536];
    double until = now() + patience();
    while (client->answers < answers) {
        ssize_t came = receive_some(client->peer, piece, sizeof piece, 0.25);
        expect_running(client->server);
        if (came == -1)
            fail_test("Expected: each line is answered.\n"
                      "The connection ended before all were.");
        if (came > 0) {
            add_piece(client, piece, (size_t)came);
            until = now() + patience();
            continue;
        }
#ifdef __linux__
        bool sleeps = share_of_time_busy(client->server, 0.25) == 0;
#else
        bool sleeps = false;
#endif
        if ((sleeps || now() > until) && bytes_waiting(client->peer) == 0)
            fail_test("Expected: each line is answered.\n"
                      "%zu answers are due, nothing comes, and all threads of "
                      "the server %s.",
                      answers - client->answers,
                      sleeps ? "sleep" : "have had time");
    }
}

/* Takes what is there, and does not wait. */
static void hear_now(struct client *client)
{
    char piece[65536];
    ssize_t came;
    while (bytes_waiting(client->peer) > 0 &&
           (came = receive_some(client->peer, piece, sizeof piece, 0)) > 0)
        add_piece(client, piece, (size_t)came);
}

static struct client visit(struct program *server)
{
    return (struct client){.server = server, .peer = connect_to(server)};
}

/* All that has come, as a text that the harness owns. */
static const char *text_for(struct client *client)
{
    add_bytes(&client->text, "", 1);
    return client->text.bytes;
}

/* Copies a line, as much as fits, and returns where the next one begins. */
static const char *take_line(const char *text, char line[64])
{
    size_t length = strcspn(text, "\n");
    snprintf(line, 64, "%.*s", (int)length, text);
    return text + length + 1;
}

/* ------------------------------------------------------------- a busy day */

enum {
    BEFORE = 1000, /* moves, so that a history takes its time */
    MOVERS = 4,    /* clients that move money between 1 and 2, */
    EACH = 400,    /* each so many times, */
    BACKLOG = 5,   /* while one waits for so many histories */
    MOVES = BEFORE + MOVERS * EACH
};

struct day {
    const char *moves[MOVERS + 1]; /* what each mover was answered */
    const char *histories;         /* and who asked for histories meanwhile */
};

/* Several clients ask at the same time, and all are answered. The movers ask
 * for `at_once` moves at a time. */
static struct day busy_day(size_t at_once)
{
    const char *there = "move 1 2 1\n", *back = "move 2 1 1\n";
    struct program *server = start_server(NULL);
    struct client movers[MOVERS + 1], reader = visit(server);
    for (int i = 0; i <= MOVERS; i++)
        movers[i] = visit(server);
    usual_cause("One client alone asks for many moves, one after the other. "
                "A mutex is not given back on one of the ways out, or the "
                "journal does not hold what it held.");
    send_text(movers[MOVERS].peer,
              repeat(text_of("%s%s", there, back), BEFORE / 2));
    hear(&movers[MOVERS], BEFORE);
    usual_cause(NULL);

    note("One client asks for histories, %d move money at the same time.",
         MOVERS);
    size_t asked = 0;
    for (size_t answers = at_once; answers <= EACH; answers += at_once) {
        /* All threads find something to do at the same moment. */
        stop_program(server);
        hear_now(&reader);
        size_t due = reader.answers + BACKLOG - asked;
        send_text(reader.peer, repeat("history 1\n", due));
        asked += due;
        /* All in one direction, so that no move hides another. */
        const char *move = answers / at_once % 2 == 1 ? there : back;
        for (int i = 0; i < MOVERS; i++)
            send_text(movers[i].peer, repeat(move, at_once));
        continue_program(server);
        for (int i = 0; i < MOVERS; i++)
            hear(&movers[i], answers);
    }
    hear(&reader, asked);
    struct day day = {.histories = text_for(&reader)};
    for (int i = 0; i <= MOVERS; i++)
        day.moves[i] = text_for(&movers[i]);
    return day;
}

TEST(server, one_client_is_answered,
     .promise = "A client sends lines and gets an answer to each.",
     .cause = "What worked with one client does not work any more: compare "
              "with the original (make reset-05-3 keeps yours).",
     .read = READ)
{
    struct program *server = start_server(NULL);
    struct peer *client = connect_to(server);
    send_text(client, "move 1 2 300\nmove 2 3 1300\nmove 2 3 1\nnonsense\n"
                      "history 2\nhistory 9\nmove 1 9 5\nmove 3 1 -1\n"
                      "history 4\n");
    expect_text(client, "moved 1\nmoved 2\nrefused\nerror\n"
                        "1 1 2 300\n2 2 3 1300\nbalance 0\nerror\nerror\n"
                        "error\nbalance 1000\n");
    usual_cause("What is refused is no move: it has no number, and the next "
                "move has the one that follows the last.");
    send_text(client, "move 3 2 1\n");
    expect_text(client, "moved 3\n");
}

TEST(server, all_are_answered,
     .promise = "Each line is answered, whatever other clients ask at the same "
                "time.",
     .cause = "To begin with: two threads wait for each other. Start the "
              "server by hand, let clients ask for moves and histories at the "
              "same time (\"Try it\" in the file says how) until it stops, and "
              "look at it with gdb -p PID and \"thread apply all backtrace\": "
              "which mutex has each thread that waits in pthread_mutex_lock, "
              "and which does it want? Then let all take them in one order.",
     .read = READ)
{
    busy_day(50);
}

TEST(server, each_move_has_its_number,
     .promise = "Each move has a number of its own, and none is left out.",
     .cause = "Two threads have read the same last_number before either of "
              "them wrote it. To read it, to add one and to write it is one "
              "step for others only under a mutex. The thread sanitizer shows "
              "where: \"WARNING: ThreadSanitizer: data race\".",
     .read = READ)
{
    struct day day = busy_day(50);
    int times[MOVES + 1] = {0};
    for (int i = 0; i <= MOVERS; i++) {
        const char *next = day.moves[i];
        while (*next != '\0') {
            char line[64];
            int number = 0;
            next = take_line(next, line);
            if (sscanf(line, "moved %d", &number) != 1 || number < 1)
                fail_test("Expected: each move is answered with \"moved\" and "
                          "its number.\nWhat came: \"%s\".",
                          line);
            if (number > MOVES)
                fail_test("Expected: %d moves have the numbers 1 to %d.\n"
                          "One has the number %d.",
                          MOVES, MOVES, number);
            times[number]++;
        }
    }
    for (int number = 1; number <= MOVES; number++)
        if (times[number] != 1)
            fail_test("Expected: %d moves have the numbers 1 to %d, each of "
                      "them one.\n%d of them have the number %d.",
                      MOVES, MOVES, times[number], number);
}

TEST(server, a_history_agrees_with_its_balance,
     .promise = "The balance in a history is that after the last of its "
                "moves.",
     .cause = "A history lets go of one mutex before it takes the other, or a "
              "move does: in between somebody else makes a move, which is in "
              "the balance and not in the list. Hold both, and take them in "
              "the order in which all others take them.",
     .read = READ)
{
    struct day day = busy_day(8);
    int balance = 1000;
    for (const char *next = day.histories; *next != '\0';) {
        char line[64];
        int number, from, to, amount;
        next = take_line(next, line);
        if (sscanf(line, "%d %d %d %d", &number, &from, &to, &amount) == 4) {
            balance += to == 1 ? amount : from == 1 ? -amount : 0;
            continue;
        }
        if (sscanf(line, "balance %d", &amount) != 1)
            fail_test("Expected: a history ends with the balance.\n"
                      "What came: \"%s\".",
                      line);
        if (amount != balance)
            fail_test("Expected: 1000 and all moves of the history make %d.\n"
                      "It says: balance %d.",
                      balance, amount);
        balance = 1000;
    }
}

TEST(server, who_does_not_read_holds_up_nobody,
     .promise = "Nobody waits for a client that does not read.",
     .cause = "A mutex is held while an answer is sent. send waits for a "
              "client that does not read, and everybody who wants the mutex "
              "waits for send. Unlock first, then send.",
     .read = READ)
{
    struct program *server = start_server(NULL);
    struct client first = visit(server);
    send_text(first.peer, repeat("move 1 2 1\nmove 2 1 1\n", 500));
    hear(&first, 1000);
    struct connect_options narrow = {.receive_buffer = 4096};
    struct peer *deaf = connect_with(server, &narrow);
    note("A client asks for a long history 1000 times and reads nothing.");
    send_text(deaf, repeat("history 1\n", 1000));
    expect_idle(server, "while that client does not read");
    send_text(first.peer, "move 1 2 5\nhistory 3\n");
    hear(&first, 1002);
}
