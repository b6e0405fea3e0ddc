/*
 * json_stream.h
 *	  JSON from pieces of any size, as a sequence of events.
 */
#ifndef PFA_JSON_STREAM_H
#define PFA_JSON_STREAM_H

#include <stdbool.h>
#include <stddef.h>

typedef enum PfaJsonEvent
{
	PFA_JSON_NEED_MORE, /* the piece is used up */
	PFA_JSON_OBJECT_BEGIN,
	PFA_JSON_OBJECT_END,
	PFA_JSON_ARRAY_BEGIN,
	PFA_JSON_ARRAY_END,
	PFA_JSON_KEY,    /* in token */
	PFA_JSON_STRING, /* in token */
	PFA_JSON_SCALAR, /* a number, true, false, null; in token */
	PFA_JSON_ERROR   /* see error */
} PfaJsonEvent;

typedef enum PfaJsonState
{
	PFA_JSON_AT_VALUE,
	PFA_JSON_AT_FIRST_ELEMENT, /* or the end of the array */
	PFA_JSON_AT_FIRST_KEY,     /* or the end of the object */
	PFA_JSON_AT_KEY,
	PFA_JSON_AT_COLON,
	PFA_JSON_AT_COMMA, /* or the end of array or object */
	PFA_JSON_IN_STRING,
	PFA_JSON_IN_ESCAPE,
	PFA_JSON_IN_HEX,
	PFA_JSON_IN_SCALAR,
	PFA_JSON_AT_END /* the value is complete */
} PfaJsonState;

#define PFA_JSON_TOKEN_SIZE 1024

/*
 * stack[i] is '{' or '[' for the i-th open container.  A token longer than
 * its buffer is checked to its end, but only its beginning is kept.
 */
typedef struct PfaJsonStream
{
	PfaJsonState state;
	bool is_key; /* the string being read */
	int hex_left;
	int depth;
	int max_depth;
	char *stack; /* max_depth of them */
	const char *error;
	size_t token_len;
	bool token_cut;
	char token[PFA_JSON_TOKEN_SIZE]; /* escapes as they came */
} PfaJsonStream;

extern bool pfa_json_stream_init(PfaJsonStream *stream, int max_depth);
extern void pfa_json_stream_free(PfaJsonStream *stream);

/*
 * The next event of [*p, end).  *p is left behind the bytes used; with an
 * error, at the byte that is wrong.
 */
extern PfaJsonEvent
pfa_json_stream_next(PfaJsonStream *stream, const char **p, const char *end);

/* The container opened last was read by somebody else, up to its end. */
extern void pfa_json_stream_close(PfaJsonStream *stream);

#endif /* PFA_JSON_STREAM_H */
