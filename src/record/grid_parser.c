/*
 * grid_parser.c
 *	  A griddata answer, from bytes as they arrive to records.
 *
 * The envelope is read as a sequence of events (json_stream.c), of which
 * grid_envelope.c makes sense.
 *
 * A row is tried where it lies in the caller's buffer.  Only one that ends in
 * a later piece is copied, into the carry, until its end has been seen; then
 * it is parsed as a whole.  A row that outgrows max_record_bytes is handed
 * back to the stream instead, which keeps of it no more than a token.
 */
#include "record/grid_private.h"

#include "record/json_scan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How much of the next piece a carried row is tried with. */
#define PFA_GRID_TRIED_BYTES 8192

/* ---- life ---- */

PfaGridParser *
pfa_grid_parser_create(const PfaMapping *mapping, const char *organization,
					   PfaGridLayout *layout, const PfaGridLimits *limits,
					   PfaBatch *batch)
{
	PfaGridParser *parser = calloc(1, sizeof(PfaGridParser));
	bool ok;

	if (parser == NULL)
		return NULL;
	parser->limits = *limits;
	parser->layout = layout;
	parser->incoming = pfa_grid_layout_create();
	parser->result.total = -1;
	parser->result.cursor = -1;
	parser->result.more = -1;
	parser->result.ascending = true;
	parser->result.status = PFA_GRID_MORE;
	ok = pfa_row_parser_init(&parser->row, mapping, organization, layout,
							 &parser->limits, batch);
	ok &= pfa_json_stream_init(&parser->stream, limits->max_depth);
	parser->places = calloc((size_t) parser->stream.max_depth + 1, 1);
	if (!ok || parser->incoming == NULL || parser->places == NULL)
	{
		pfa_grid_parser_free(parser);
		return NULL;
	}
	return parser;
}

void
pfa_grid_parser_free(PfaGridParser *parser)
{
	if (parser == NULL)
		return;
	pfa_row_parser_free(&parser->row);
	pfa_json_stream_free(&parser->stream);
	pfa_grid_layout_free(parser->incoming);
	free(parser->places);
	free(parser->carry);
	free(parser);
}

void
pfa_grid_parser_mark(PfaGridParser *parser, int64_t nrows)
{
	parser->row.mark = nrows;
}

void
pfa_grid_parser_trust_layout(PfaGridParser *parser)
{
	parser->row.layout_is_fresh = true;
}

const PfaGridLayout *
pfa_grid_parser_aliases(const PfaGridParser *parser)
{
	return parser->row.aliases;
}

const PfaGridResult *
pfa_grid_parser_result(const PfaGridParser *parser)
{
	return &parser->result;
}

const char *
pfa_grid_parser_first_id(const PfaGridParser *parser)
{
	return parser->row.has_id ? parser->row.first_id : NULL;
}

const char *
pfa_grid_parser_last_id(const PfaGridParser *parser)
{
	return parser->row.has_id ? parser->row.last_id : NULL;
}

/* ---- endings; all return false, for the caller to pass on ---- */

bool
pfa_grid_end_with(PfaGridParser *parser, PfaGridStatus status,
				  const char *error)
{
	parser->result.status = status;
	snprintf(parser->result.error, sizeof(parser->result.error), "%s", error);
	return false;
}

bool
pfa_grid_malformed(PfaGridParser *parser, size_t at, const char *error)
{
	parser->result.status = PFA_GRID_MALFORMED;
	snprintf(parser->result.error, sizeof(parser->result.error),
			 "malformed answer at byte %zu: %s", at, error);
	return false;
}

bool
pfa_grid_row_failed(PfaGridParser *parser, PfaRowStatus status, size_t at)
{
	switch (status)
	{
		case PFA_ROW_NEEDS_LAYOUT:
			return pfa_grid_end_with(parser, PFA_GRID_NEEDS_LAYOUT,
									 "rows have cells without a known field");
		case PFA_ROW_OUT_OF_MEMORY:
			return pfa_grid_end_with(parser, PFA_GRID_OUT_OF_MEMORY,
									 "out of memory");
		case PFA_ROW_MALFORMED:
			return pfa_grid_malformed(parser, at, parser->row.error);
		default:
			return pfa_grid_malformed(parser, at,
									  "row does not end where it should");
	}
}

/* ---- rows ---- */

/*
 * Look for the end of a carried row in [p, end): behind it, or end with
 * scan_depth still above 0.  Brackets are only counted; whether they match is
 * for the row's parser to say.
 */
static const char *
scan_row(PfaGridParser *parser, const char *p, const char *end)
{
	while (p < end)
	{
		if (parser->scan_escape)
		{
			parser->scan_escape = false;
			p++;
		}
		else if (parser->scan_string)
		{
			p = json_string_stop(p, end);
			if (p == end)
				break;
			if (*p == '"')
				parser->scan_string = false;
			else
				parser->scan_escape = true;
			p++;
		}
		else
		{
			p = json_structure_stop(p, end);
			if (p == end)
				break;
			if (*p == '"')
				parser->scan_string = true;
			else if (*p == '{' || *p == '[')
				parser->scan_depth++;
			else
				parser->scan_depth--;
			p++;
			if (parser->scan_depth == 0)
				return p;
		}
	}
	return p;
}

static bool
carry_append(PfaGridParser *parser, const char *data, size_t len)
{
	if (parser->carry_len + len > parser->carry_room)
	{
		size_t room = 2 * (parser->carry_len + len) + 4096;
		char *grown = realloc(parser->carry, room);

		if (grown == NULL)
			return pfa_grid_end_with(parser, PFA_GRID_OUT_OF_MEMORY,
									 "out of memory");
		parser->carry = grown;
		parser->carry_room = room;
	}
	memcpy(parser->carry + parser->carry_len, data, len);
	parser->carry_len += len;
	return true;
}

/*
 * The row whose '{' is at *p - 1.  *p is left behind it, or at end when it
 * has to be carried, or where it was when it is too large.
 */
static bool
row_in_place(PfaGridParser *parser, const char **p, const char *end, size_t at)
{
	const char *start = *p - 1;
	const char *limit = end;
	PfaRowStatus status;

	if ((size_t) (end - start) > parser->limits.max_record_bytes)
		limit = start + parser->limits.max_record_bytes;
	if (limit == start)
		return pfa_grid_begin_large_row(parser);
	status = pfa_row_parse(&parser->row, start, limit, parser->stream.depth, p);
	if (status == PFA_ROW_COMPLETE)
	{
		pfa_json_stream_close(&parser->stream);
		status = pfa_row_commit(&parser->row);
		return status == PFA_ROW_COMPLETE ||
			pfa_grid_row_failed(parser, status, at);
	}
	if (status != PFA_ROW_SHORT)
	{
		if (status == PFA_ROW_MALFORMED)
			at += (size_t) (parser->row.error_at - start);
		return pfa_grid_row_failed(parser, status, at);
	}
	if (limit < end)
		return pfa_grid_begin_large_row(parser);
	parser->carrying = true;
	parser->carry_len = 0;
	parser->carry_at = at;
	parser->carry_tried = false;
	parser->scan_string = parser->scan_escape = false;
	parser->scan_depth = 0;
	*p = end;
	return carry_append(parser, start, (size_t) (end - start));
}

/* The row in the carry is complete. */
static bool
row_carried(PfaGridParser *parser)
{
	const char *end = parser->carry + parser->carry_len;
	const char *next = NULL;
	PfaRowStatus status;
	size_t at = parser->carry_at;

	parser->carrying = false;
	status = pfa_row_parse(&parser->row, parser->carry, end,
						   parser->stream.depth, &next);
	if (status == PFA_ROW_MALFORMED)
		at += (size_t) (parser->row.error_at - parser->carry);
	if (status == PFA_ROW_COMPLETE && next != end)
		status = PFA_ROW_SHORT;
	if (status != PFA_ROW_COMPLETE)
		return pfa_grid_row_failed(parser, status, at);
	pfa_json_stream_close(&parser->stream);
	status = pfa_row_commit(&parser->row);
	return status == PFA_ROW_COMPLETE ||
		pfa_grid_row_failed(parser, status, at);
}

/* ---- the loop ---- */

/* data lies at position at of the answer. */
static bool
process(PfaGridParser *parser, const char *data, const char *end, size_t at)
{
	PfaJsonStream *stream = &parser->stream;
	const char *p = data;
	PfaJsonEvent event;
	bool ok = true;

	while (ok && p < end)
	{
		event = pfa_json_stream_next(stream, &p, end);
		if (event == PFA_JSON_NEED_MORE)
			return true;
		if (event == PFA_JSON_ERROR)
		{
			if (stream->depth == 0 && stream->state != PFA_JSON_AT_END)
				return pfa_grid_end_with(parser, PFA_GRID_MALFORMED,
										 "answer is not JSON");
			return pfa_grid_malformed(parser, at + (size_t) (p - data),
									  stream->error);
		}
		if (event == PFA_JSON_OBJECT_BEGIN && pfa_grid_row_begins(parser))
			ok = row_in_place(parser, &p, end, at + (size_t) (p - 1 - data));
		else
			ok = pfa_grid_take_event(parser, event, at + (size_t) (p - data));
	}
	return ok;
}

/*
 * Most carried rows end early in the next piece: parsing once more, with
 * enough of that, costs less than looking for the end first.  Done once a
 * row, or small pieces would cost the square of their number.  True when the
 * row was complete, *ok tells what became of it; else nothing has changed.
 */
static bool
try_carry(PfaGridParser *parser, const char **data, const char *end, bool *ok)
{
	size_t len = (size_t) (end - *data);
	size_t before = parser->carry_len;
	const char *next;
	PfaRowStatus status;

	parser->carry_tried = true;
	if (len > PFA_GRID_TRIED_BYTES)
		len = PFA_GRID_TRIED_BYTES;
	if (len > parser->limits.max_record_bytes - before)
		len = parser->limits.max_record_bytes - before;
	*ok = carry_append(parser, *data, len);
	if (!*ok)
		return true;
	status = pfa_row_parse(&parser->row, parser->carry,
						   parser->carry + parser->carry_len,
						   parser->stream.depth, &next);
	if (status != PFA_ROW_COMPLETE)
	{
		parser->carry_len = before;
		return false;
	}
	*data += (size_t) (next - parser->carry) - before;
	parser->carrying = false;
	pfa_json_stream_close(&parser->stream);
	status = pfa_row_commit(&parser->row);
	*ok = status == PFA_ROW_COMPLETE ||
		pfa_grid_row_failed(parser, status, parser->carry_at);
	return true;
}

/*
 * Data that belongs to the row in the carry, or to what comes after it.
 * *data is left behind what was used.
 */
static bool
process_carry(PfaGridParser *parser, const char **data, const char *end)
{
	const char *start = *data;
	const char *stop;
	size_t len;
	bool ok;

	if (!parser->carry_tried)
	{
		if (try_carry(parser, data, end, &ok))
			return ok;
		(void) scan_row(parser, parser->carry,
						parser->carry + parser->carry_len);
	}
	stop = scan_row(parser, start, end);
	len = (size_t) (stop - start);
	if (parser->carry_len + len > parser->limits.max_record_bytes)
	{
		char *carry = parser->carry;

		/* what was carried goes through the stream, then all the rest */
		parser->carrying = false;
		parser->carry = NULL;
		parser->carry_room = 0;
		ok = pfa_grid_begin_large_row(parser) &&
			process(parser, carry + 1, carry + parser->carry_len,
					parser->carry_at + 1);
		free(carry);
		return ok;
	}
	if (!carry_append(parser, start, len))
		return false;
	*data = stop;
	return parser->scan_depth > 0 || row_carried(parser);
}

/*
 * Some servers begin with a byte order mark, which JSON does not have.  False
 * if only its beginning was there.
 */
static bool
skip_bom(PfaGridParser *parser, const char **data, const char *end)
{
	static const char bom[] = "\xef\xbb\xbf";

	while (*data < end && parser->bom < 3 && **data == bom[parser->bom])
	{
		parser->bom++;
		(*data)++;
	}
	if (*data < end && parser->bom > 0 && parser->bom < 3)
		return pfa_grid_end_with(parser, PFA_GRID_MALFORMED,
								 "answer is not JSON");
	if (*data < end)
		parser->bom = 3;
	return true;
}

PfaGridStatus
pfa_grid_parser_feed(PfaGridParser *parser, const char *data, size_t len)
{
	PfaGridResult *result = &parser->result;
	const char *p = data;
	const char *end = data + len;
	size_t before = parser->nbytes;
	bool ok = true;

	if (result->status != PFA_GRID_MORE && result->status != PFA_GRID_DONE)
		return result->status;
	if (len > parser->limits.max_page_bytes - before)
	{
		snprintf(result->error, sizeof(result->error),
				 "answer is larger than %zu bytes",
				 parser->limits.max_page_bytes);
		return result->status = PFA_GRID_MALFORMED;
	}
	parser->nbytes += len;
	if (parser->bom < 3)
		ok = skip_bom(parser, &p, end);
	while (ok && p < end && parser->carrying)
		ok = process_carry(parser, &p, end);
	if (ok && p < end)
		ok = process(parser, p, end, before + (size_t) (p - data));
	result->nrows = parser->row.nrows;
	result->nforeign = parser->row.nforeign;
	result->ascending = parser->row.ascending;
	result->uneven = parser->row.uneven;
	result->last_id_is_ours = parser->row.last_id_is_ours;
	result->marked_records = parser->row.marked_records;
	result->marked_rejects = parser->row.marked_rejects;
	return result->status;
}

PfaGridStatus
pfa_grid_parser_finish(PfaGridParser *parser)
{
	const char *next;

	if (parser->result.status != PFA_GRID_MORE)
		return parser->result.status;
	/* a row may be wrong long before its end is missed */
	if (parser->carrying &&
		pfa_row_parse(&parser->row, parser->carry,
					  parser->carry + parser->carry_len, parser->stream.depth,
					  &next) == PFA_ROW_MALFORMED)
		pfa_grid_row_failed(parser, PFA_ROW_MALFORMED,
							parser->carry_at +
								(size_t) (parser->row.error_at -
										  parser->carry));
	else if (parser->nbytes == 0)
		pfa_grid_end_with(parser, PFA_GRID_MALFORMED, "answer is empty");
	else
		pfa_grid_end_with(parser, PFA_GRID_MALFORMED,
						  "answer ends in the middle");
	return parser->result.status;
}
