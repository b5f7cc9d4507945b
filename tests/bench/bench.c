/*
 * bench.c - measures servers of the room side by side.
 *
 *     bench NAME COMMAND NAME COMMAND...
 *
 * COMMAND is how a shell starts a server that keeps the contract from lesson
 * 05 on; with a NAME that begins with "07" it speaks TLS, and CA in the
 * environment names the certificate to trust. Every server is started, measured
 * and ended in turn, ROUNDS times, and of each figure the best round counts:
 * what disturbs a measurement makes it worse, never better. Quote the ratios,
 * not the times.
 *
 * "Processor" is what the server's process used, its kernel part with it.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    ROUNDS = 3,
    SERVERS_MAX = 8,
    PATIENCE = 20, /* seconds that one call may wait */
    EXCHANGES = 1000,
    CONNECTIONS = 200, /* one after the other */
    SILENT = 1000,
    MEMBERS = 100,
    TEXTS = 100,
    PAYLOAD_MAX = 65536
};

enum figure {
    EXCHANGE,
    EXCHANGE_CPU,
    CONNECT_CPU,
    SILENT_EXCHANGE,
    SILENT_CPU,
    SILENT_MEMORY,
    TEXT,
    TEXT_CPU,
    FIGURES
};

static const char *const figure_names[FIGURES] = {
    [EXCHANGE] = "a ping and its pong, us",
    [EXCHANGE_CPU] = "  processor, us",
    [CONNECT_CPU] = "to connect, ping and end: processor, us",
    [SILENT_EXCHANGE] = "a ping beside 1000 silent clients, us",
    [SILENT_CPU] = "  processor, us",
    [SILENT_MEMORY] = "  memory for each of them, KB",
    [TEXT] = "a text to 100 members, us",
    [TEXT_CPU] = "  processor for each who hears it, us",
};

struct server {
    const char *name, *command;
    pid_t pid;  /* 0: does not run */
    int output; /* the pipe that it prints into, from then on */
    in_port_t port;
    clockid_t clock; /* the processor time that it has used */
    SSL_CTX *tls;    /* or NULL */
    double best[FIGURES];
};

static struct server servers[SERVERS_MAX];

struct client {
    int socket;
    SSL *tls; /* or NULL */
};

/* --------------------------------------------------------------- what fails */

static void end_servers(void)
{
    for (size_t i = 0; i < SERVERS_MAX; i++)
        if (servers[i].pid > 0)
            kill(servers[i].pid, SIGKILL);
}

/* Ends the program, and the servers with it. */
static _Noreturn void give_up(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "bench: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    exit(1);
}

/* Gives up when a system call has failed. */
static int must(int result, const char *what)
{
    if (result == -1)
        give_up("%s: %s", what, strerror(errno));
    return result;
}

/* ------------------------------------------------------------------ servers */

static double seconds(clockid_t clock)
{
    struct timespec moment;
    must(clock_gettime(clock, &moment), "clock_gettime");
    return (double)moment.tv_sec + (double)moment.tv_nsec / 1e9;
}

/* Reads the first line that a server prints. Returns whether it came whole, in
 * time, and in `size` bytes. */
static bool read_line(int output, char *line, size_t size)
{
    double until = seconds(CLOCK_MONOTONIC) + PATIENCE;
    struct pollfd printed = {.fd = output, .events = POLLIN};
    for (size_t length = 0; length < size; length++) {
        double left = until - seconds(CLOCK_MONOTONIC);
        if (left <= 0 || poll(&printed, 1, (int)(left * 1000)) != 1 ||
            read(output, &line[length], 1) != 1)
            return false;
        if (line[length] == '\n') {
            line[length] = '\0';
            return true;
        }
    }
    return false;
}

static void start(struct server *server)
{
    int output[2];
    char command[1024], line[256];
    int length = snprintf(command, sizeof command, "exec %s -p 0",
                          server->command);
    if (length < 0 || (size_t)length >= sizeof command)
        give_up("%s: this command is too long", server->name);

    must(pipe(output), "pipe");
    server->pid = must(fork(), "fork");
    if (server->pid == 0) {
        signal(SIGPIPE, SIG_DFL);
        if (dup2(output[1], STDOUT_FILENO) == -1)
            _exit(127);
        close(output[0]);
        close(output[1]);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    close(output[1]);
    server->output = output[0];

    /* "listening on 127.0.0.1:PORT" */
    const char *colon = NULL;
    if (read_line(server->output, line, sizeof line))
        colon = strrchr(line, ':');
    long port = colon == NULL ? 0 : strtol(colon + 1, NULL, 10);
    if (port < 1 || port > 65535)
        give_up("%s did not say where it listens: %s", server->name, command);
    server->port = (in_port_t)port;
    if (clock_getcpuclockid(server->pid, &server->clock) != 0)
        give_up("%s has no processor time", server->name);
}

static void stop(struct server *server)
{
    double begin = seconds(CLOCK_MONOTONIC);
    must(kill(server->pid, SIGTERM), "kill");
    while (must(waitpid(server->pid, NULL, WNOHANG), "waitpid") == 0) {
        if (seconds(CLOCK_MONOTONIC) - begin > PATIENCE)
            give_up("%s does not end at SIGTERM", server->name);
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    server->pid = 0;
    close(server->output);
}

/* How much memory a server has in use, in KB. */
static double memory(const struct server *server)
{
    char path[64], line[256];
    long size = -1;
    snprintf(path, sizeof path, "/proc/%ld/status", (long)server->pid);
    FILE *status = fopen(path, "r");
    if (status == NULL)
        give_up("%s: %s", path, strerror(errno));
    while (size == -1 && fgets(line, sizeof line, status) != NULL)
        if (sscanf(line, "VmRSS: %ld kB", &size) != 1)
            size = -1;
    fclose(status);
    if (size == -1)
        give_up("%s has no VmRSS", path);
    return (double)size;
}

/* ------------------------------------------------------------------ clients */

static void send_bytes(struct client *client, const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t sent = client->tls != NULL
                           ? SSL_write(client->tls, bytes, (int)length)
                           : send(client->socket, bytes, length, MSG_NOSIGNAL);
        if (sent <= 0)
            give_up("a server has broken off, or does not receive");
        bytes += sent;
        length -= (size_t)sent;
    }
}

static void receive_bytes(struct client *client, char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t came = client->tls != NULL
                           ? SSL_read(client->tls, bytes, (int)length)
                           : recv(client->socket, bytes, length, 0);
        if (came <= 0)
            give_up("a server has broken off, or does not answer");
        bytes += came;
        length -= (size_t)came;
    }
}

static void send_message(struct client *client, const char *json)
{
    char frame[4 + 256];
    size_t length = strlen(json);
    if (length > sizeof frame - 4)
        give_up("this message is too long: %s", json);
    memcpy(frame, (char[]){0, 0, (char)(length >> 8), (char)length}, 4);
    memcpy(frame + 4, json, length);
    send_bytes(client, frame, 4 + length);
}

/* Waits for a message, and gives up when it does not hold `word`. */
static void expect(struct client *client, const char *word)
{
    static char payload[PAYLOAD_MAX + 1];
    char header[4];
    receive_bytes(client, header, sizeof header);
    size_t length = 0;
    for (size_t i = 0; i < sizeof header; i++)
        length = length << 8 | (unsigned char)header[i];
    if (length > PAYLOAD_MAX)
        give_up("a frame of %zu bytes", length);
    receive_bytes(client, payload, length);
    payload[length] = '\0';
    if (strstr(payload, word) == NULL)
        give_up("expected a message with %s, and came: %s", word, payload);
}

static struct client open_client(const struct server *server)
{
    struct client client = {
        .socket = must(socket(AF_INET, SOCK_STREAM, 0), "socket")};
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(server->port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    must(connect(client.socket, (struct sockaddr *)&address, sizeof address),
         "connect");
    struct timeval limit = {.tv_sec = PATIENCE};
    must(setsockopt(client.socket, SOL_SOCKET, SO_RCVTIMEO, &limit,
                    sizeof limit),
         "SO_RCVTIMEO");
    must(setsockopt(client.socket, SOL_SOCKET, SO_SNDTIMEO, &limit,
                    sizeof limit),
         "SO_SNDTIMEO");
    must(setsockopt(client.socket, IPPROTO_TCP, TCP_NODELAY, &(int){1},
                    sizeof(int)),
         "TCP_NODELAY");
    if (server->tls == NULL)
        return client;
    client.tls = SSL_new(server->tls);
    if (client.tls == NULL || SSL_set_fd(client.tls, client.socket) != 1 ||
        X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(client.tls),
                                      "127.0.0.1") != 1 ||
        SSL_connect(client.tls) != 1)
        give_up("%s: the handshake failed", server->name);
    return client;
}

/* Ends in good order: our side first, then all that still comes is read. */
static void close_client(struct client *client)
{
    char rest[4096];
    ssize_t came;
    if (client->tls != NULL)
        SSL_shutdown(client->tls);
    must(shutdown(client->socket, SHUT_WR), "shutdown");
    do
        came = recv(client->socket, rest, sizeof rest, 0);
    while (came > 0);
    if (came == -1 && (errno == EAGAIN || errno == EWOULDBLOCK))
        give_up("a server does not end its side after its client did");
    SSL_free(client->tls); /* NULL is allowed */
    close(client->socket);
}

static void exchange(struct client *client)
{
    send_message(client, "{\"type\":\"ping\"}");
    expect(client, "pong");
}

/* --------------------------------------------------------- what is measured */

/* A figure of this round: counts when it is the best so far. */
static void note(struct server *server, enum figure figure, double value)
{
    if (value < server->best[figure])
        server->best[figure] = value;
}

/* What one exchange takes: the fastest one, and the mean of the processor. */
static void measure_exchanges(struct server *server, enum figure time,
                              enum figure cpu)
{
    struct client client = open_client(server);
    exchange(&client);
    double used = seconds(server->clock);
    for (int i = 0; i < EXCHANGES; i++) {
        double begin = seconds(CLOCK_MONOTONIC);
        exchange(&client);
        note(server, time, (seconds(CLOCK_MONOTONIC) - begin) * 1e6);
    }
    used = seconds(server->clock) - used;
    note(server, cpu, used * 1e6 / EXCHANGES);
    close_client(&client);
}

static void measure_connections(struct server *server)
{
    double used = seconds(server->clock);
    for (int i = 0; i < CONNECTIONS; i++) {
        struct client client = open_client(server);
        exchange(&client);
        close_client(&client);
    }
    used = seconds(server->clock) - used;
    note(server, CONNECT_CPU, used * 1e6 / CONNECTIONS);
}

static void measure_silence(struct server *server)
{
    static struct client silent[SILENT];
    double before = memory(server);
    for (int i = 0; i < SILENT; i++) {
        silent[i] = open_client(server);
        exchange(&silent[i]);
    }
    note(server, SILENT_MEMORY, (memory(server) - before) / SILENT);
    measure_exchanges(server, SILENT_EXCHANGE, SILENT_CPU);
    for (int i = 0; i < SILENT; i++)
        close_client(&silent[i]);
}

static void measure_texts(struct server *server)
{
    static struct client members[MEMBERS];
    char join[64];
    for (int i = 0; i < MEMBERS; i++) {
        members[i] = open_client(server);
        snprintf(join, sizeof join, "{\"type\":\"join\",\"name\":\"%d\"}", i);
        send_message(&members[i], join);
        expect(&members[i], "welcome");
        for (int k = 0; k < i; k++)
            expect(&members[k], "joined");
    }

    double used = seconds(server->clock);
    for (int i = 0; i < TEXTS; i++) {
        double begin = seconds(CLOCK_MONOTONIC);
        send_message(&members[0], "{\"type\":\"say\",\"text\":\"hello, all\"}");
        for (int k = 0; k < MEMBERS; k++)
            expect(&members[k], "hello, all");
        note(server, TEXT, (seconds(CLOCK_MONOTONIC) - begin) * 1e6);
    }
    used = seconds(server->clock) - used;
    note(server, TEXT_CPU, used * 1e6 / TEXTS / MEMBERS);

    for (int i = 0; i < MEMBERS; i++)
        close_client(&members[i]);
}

/* ---------------------------------------------------------------- all of it */

static void print_table(size_t count)
{
    printf("%-42s", "");
    for (size_t i = 0; i < count; i++)
        printf("%18s", servers[i].name);
    for (size_t figure = 0; figure < FIGURES; figure++) {
        printf("\n%-42s", figure_names[figure]);
        for (size_t i = 0; i < count; i++) {
            double value = servers[i].best[figure];
            double first = servers[0].best[figure];
            if (i == 0)
                printf("%18.1f", value);
            else
                printf("%10.1f (%.2fx)", value, value / first);
        }
    }
    printf("\n");
}

int main(int argc, char **argv)
{
    size_t count = (size_t)(argc - 1) / 2;
    if (argc < 3 || argc % 2 != 1 || count > SERVERS_MAX) {
        fprintf(stderr, "usage: bench NAME COMMAND [NAME COMMAND]...\n");
        return 2;
    }
    struct rlimit files;
    must(getrlimit(RLIMIT_NOFILE, &files), "getrlimit");
    files.rlim_cur = files.rlim_max; /* for the servers, too */
    must(setrlimit(RLIMIT_NOFILE, &files), "setrlimit");
    signal(SIGPIPE, SIG_IGN);
    atexit(end_servers);

    const char *ca = getenv("CA");
    SSL_CTX *tls = SSL_CTX_new(TLS_client_method());
    if (tls == NULL ||
        (ca != NULL && SSL_CTX_load_verify_locations(tls, ca, NULL) != 1))
        give_up("CA=%s: no certificate", ca == NULL ? "" : ca);
    SSL_CTX_set_verify(tls, SSL_VERIFY_PEER, NULL);

    for (size_t i = 0; i < count; i++) {
        servers[i].name = argv[1 + 2 * i];
        servers[i].command = argv[2 + 2 * i];
        servers[i].tls = strncmp(servers[i].name, "07", 2) == 0 ? tls : NULL;
        for (size_t figure = 0; figure < FIGURES; figure++)
            servers[i].best[figure] = 1e99;
    }
    for (int round = 0; round < ROUNDS; round++)
        for (size_t i = 0; i < count; i++) {
            start(&servers[i]);
            measure_silence(&servers[i]); /* first: memory must be fresh */
            measure_exchanges(&servers[i], EXCHANGE, EXCHANGE_CPU);
            measure_connections(&servers[i]);
            measure_texts(&servers[i]);
            stop(&servers[i]);
        }
    print_table(count);
    SSL_CTX_free(tls);
    return 0;
}
