/*
 * byteorder.c - how an integer lies in memory, and how it travels.
 *
 * A text is not the only thing that has an encoding: so has a number of more
 * than one byte. The processor keeps its bytes in the order that suits it
 * (most of today's: least significant first, "little-endian"). The network
 * has one order for all: most significant byte first, "big-endian" (RFC 1700,
 * "Data Notation"). A program that sends its memory as it is works until it
 * meets a machine of the other kind.
 *
 * Run it:
 *
 *     make
 *     ./byteorder
 */
#define _POSIX_C_SOURCE 200809L

#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static void show(const char *what, const unsigned char bytes[4])
{
    printf("%-22s %02x %02x %02x %02x\n", what, bytes[0], bytes[1], bytes[2],
           bytes[3]);
}

/* Writes a number as four bytes, most significant first, by arithmetic: the
 * same on every machine, because it never looks at memory. */
static void write_number(uint32_t number, unsigned char bytes[4])
{
    bytes[0] = (unsigned char)(number >> 24);
    bytes[1] = (unsigned char)(number >> 16);
    bytes[2] = (unsigned char)(number >> 8);
    bytes[3] = (unsigned char)number;
}

/* Reads it back. The casts matter: a shift of a plain `unsigned char` happens
 * in `int`, where 0x80 << 24 does not fit. */
static uint32_t read_number(const unsigned char bytes[4])
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 |
           (uint32_t)bytes[2] << 8 | (uint32_t)bytes[3];
}

int main(void)
{
    uint32_t number = 0x0001F600;
    unsigned char bytes[4];
    printf("the number             0x%08lX\n", (unsigned long)number);

    memcpy(bytes, &number, sizeof bytes);
    show("as this machine has it", bytes);

    uint32_t turned = htonl(number); /* "host to network long" */
    memcpy(bytes, &turned, sizeof bytes);
    show("after htonl", bytes);

    write_number(number, bytes);
    show("written with shifts", bytes);
    printf("read with shifts       0x%08lX\n",
           (unsigned long)read_number(bytes));
    return 0;
}
