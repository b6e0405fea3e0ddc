/*
 * json_stream.c
 *	  JSON from pieces of any size, as a sequence of events.
 *
 * The state lies in one struct and a stack of one byte a level, so input may
 * be cut anywhere and nesting costs no C stack.  It reads the envelope of an
 * answer and rows too large to keep; rows as such go through row_parser.c,
 * which is an order of magnitude faster and wants them whole.
 *
 * Raw control characters in strings are let through: JSON forbids them, but
 * descriptions typed into PEMS have been seen with tabs and line ends.
 */
#include "record/json_stream.h"

#include "record/json_scan.h"
#include "record/json_text.h"

#include <stdlib.h>
#include <string.h>

bool
pfa_json_stream_init(PfaJsonStream *stream, int max_depth)
{
	memset(stream, 0, sizeof(*stream));
	stream->max_depth = max_depth < 1 ? 1 : max_depth;
	stream->stack = malloc((size_t) stream->max_depth);
	return stream->stack != NULL;
}

void
pfa_json_stream_free(PfaJsonStream *stream)
{
	free(stream->stack);
	stream->stack = NULL;
}

static void
token_add(PfaJsonStream *stream, const char *text, size_t len)
{
	size_t room = sizeof(stream->token) - stream->token_len;

	if (len > room)
	{
		stream->token_cut = true;
		len = room;
	}
	memcpy(stream->token + stream->token_len, text, len);
	stream->token_len += len;
}

static void
token_begin(PfaJsonStream *stream, PfaJsonState state, bool is_key)
{
	stream->state = state;
	stream->is_key = is_key;
	stream->token_len = 0;
	stream->token_cut = false;
}

static PfaJsonEvent
fail(PfaJsonStream *stream, const char *error)
{
	stream->error = error;
	return PFA_JSON_ERROR;
}

static void
value_done(PfaJsonStream *stream)
{
	stream->state = stream->depth > 0 ? PFA_JSON_AT_COMMA : PFA_JSON_AT_END;
}

void
pfa_json_stream_close(PfaJsonStream *stream)
{
	stream->depth--;
	value_done(stream);
}

static PfaJsonEvent
open_container(PfaJsonStream *stream, char c)
{
	if (stream->depth >= stream->max_depth)
		return fail(stream, "nested too deep");
	stream->stack[stream->depth++] = c;
	stream->state = c == '{' ? PFA_JSON_AT_FIRST_KEY :
							   PFA_JSON_AT_FIRST_ELEMENT;
	return c == '{' ? PFA_JSON_OBJECT_BEGIN : PFA_JSON_ARRAY_BEGIN;
}

/*
 * One character of structure; NEED_MORE means no event yet.  The character
 * is used up, except the first one of a scalar.
 */
static PfaJsonEvent
structure(PfaJsonStream *stream, const char **p)
{
	char c = **p;
	bool in_object = stream->depth > 0 &&
		stream->stack[stream->depth - 1] == '{';

	switch (stream->state)
	{
		case PFA_JSON_AT_FIRST_KEY:
		case PFA_JSON_AT_FIRST_ELEMENT:
		case PFA_JSON_AT_COMMA:
			if ((c == '}' && in_object) ||
				(c == ']' && !in_object && stream->depth > 0))
			{
				(*p)++;
				pfa_json_stream_close(stream);
				return in_object ? PFA_JSON_OBJECT_END : PFA_JSON_ARRAY_END;
			}
			break;
		default:
			break;
	}

	switch (stream->state)
	{
		case PFA_JSON_AT_COMMA:
			if (c != ',')
				return fail(stream, "expected a comma or the end");
			stream->state = in_object ? PFA_JSON_AT_KEY : PFA_JSON_AT_VALUE;
			break;
		case PFA_JSON_AT_FIRST_KEY:
		case PFA_JSON_AT_KEY:
			if (c != '"')
				return fail(stream, "expected a name");
			token_begin(stream, PFA_JSON_IN_STRING, true);
			break;
		case PFA_JSON_AT_COLON:
			if (c != ':')
				return fail(stream, "expected a colon");
			stream->state = PFA_JSON_AT_VALUE;
			break;
		case PFA_JSON_AT_END:
			return fail(stream, "unexpected data after the end");
		default:
			if (c == '{' || c == '[')
			{
				PfaJsonEvent event = open_container(stream, c);

				if (event != PFA_JSON_ERROR)
					(*p)++;
				return event;
			}
			if (c == '"')
				token_begin(stream, PFA_JSON_IN_STRING, false);
			else if (json_is_scalar(c))
			{
				token_begin(stream, PFA_JSON_IN_SCALAR, false);
				return PFA_JSON_NEED_MORE;
			}
			else
				return fail(stream, "expected a value");
			break;
	}
	(*p)++;
	return PFA_JSON_NEED_MORE;
}

/* Inside a string, up to its end or that of the piece. */
static PfaJsonEvent
string_part(PfaJsonStream *stream, const char **p, const char *end)
{
	const char *stop = json_string_stop(*p, end);

	token_add(stream, *p, (size_t) (stop - *p));
	*p = stop;
	if (stop == end)
		return PFA_JSON_NEED_MORE;
	(*p)++;
	if (*stop == '\\')
	{
		token_add(stream, "\\", 1);
		stream->state = PFA_JSON_IN_ESCAPE;
		return PFA_JSON_NEED_MORE;
	}
	if (stream->is_key)
	{
		stream->state = PFA_JSON_AT_COLON;
		return PFA_JSON_KEY;
	}
	value_done(stream);
	return PFA_JSON_STRING;
}

static PfaJsonEvent
escape_part(PfaJsonStream *stream, const char **p)
{
	char c = **p;

	if (stream->state == PFA_JSON_IN_ESCAPE)
	{
		if (c == '\0' || strchr("\"\\/bfnrtu", c) == NULL)
			return fail(stream, "invalid escape");
		stream->hex_left = c == 'u' ? 4 : 0;
	}
	else
	{
		if (!((c >= '0' && c <= '9') ||
			  ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')))
			return fail(stream, "invalid escape");
		stream->hex_left--;
	}
	stream->state = stream->hex_left > 0 ? PFA_JSON_IN_HEX : PFA_JSON_IN_STRING;
	token_add(stream, &c, 1);
	(*p)++;
	return PFA_JSON_NEED_MORE;
}

/* A scalar ends at the first byte that cannot belong to it. */
static PfaJsonEvent
scalar_part(PfaJsonStream *stream, const char **p, const char *end)
{
	const char *start = *p;

	while (*p < end && json_is_scalar(**p))
		(*p)++;
	token_add(stream, start, (size_t) (*p - start));
	if (*p == end)
		return PFA_JSON_NEED_MORE;
	if (stream->token_cut ||
		!pfa_json_scalar_valid(stream->token, stream->token_len))
		return fail(stream, "invalid number or word");
	value_done(stream);
	return PFA_JSON_SCALAR;
}

PfaJsonEvent
pfa_json_stream_next(PfaJsonStream *stream, const char **p, const char *end)
{
	PfaJsonEvent event = PFA_JSON_NEED_MORE;

	while (*p < end && event == PFA_JSON_NEED_MORE)
	{
		switch (stream->state)
		{
			case PFA_JSON_IN_STRING:
				event = string_part(stream, p, end);
				break;
			case PFA_JSON_IN_ESCAPE:
			case PFA_JSON_IN_HEX:
				event = escape_part(stream, p);
				break;
			case PFA_JSON_IN_SCALAR:
				event = scalar_part(stream, p, end);
				break;
			default:
				if (json_is_space(**p))
					(*p)++;
				else
					event = structure(stream, p);
				break;
		}
	}
	return event;
}
