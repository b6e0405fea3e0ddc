/*
 * grid_parser.c
 *	  A griddata answer, from bytes as they arrive to records.
 *
 * The envelope is read as a sequence of events (json_stream.c).  For each open
 * container the parser knows the place it has in the answer; a table says
 * which places a member's name leads to, and all else leads to PLACE_OTHER,
 * which is skipped.
 *
 * A row is tried where it lies in the caller's buffer.  Only one that ends in
 * a later piece is copied, into the carry, until its end has been seen; then
 * it is parsed as a whole.  A row that outgrows max_record_bytes is handed
 * back to the stream instead, which keeps of it no more than a token.
 */
#include "record/grid_parser.h"

#include "record/json_scan.h"
#include "record/json_stream.h"
#include "record/json_text.h"
#include "record/row_parser.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

typedef enum GridPlace
{
	PLACE_OTHER,
	PLACE_TOP,
	PLACE_RESULT,
	PLACE_RESULT_DATA,
	PLACE_GRID,
	PLACE_METADATA,
	PLACE_FIELDS,
	PLACE_HEADER,
	PLACE_DATATABLE,
	PLACE_FIELD_LIST,
	PLACE_FIELD,
	PLACE_FIELD_NUM,
	PLACE_FIELD_NAME,
	PLACE_DATA,
	PLACE_ROWS,
	PLACE_ROW,
	PLACE_ALERTS,
	PLACE_ALERT,
	PLACE_ALERT_MESSAGE,
	PLACE_ALERT_NAME,
	PLACE_CURSOR,
	PLACE_MORE,
	/* totals, the most trusted one first */
	PLACE_RECORDS,
	PLACE_TOTALROWS,
	PLACE_TOTAL_COUNT,
	PLACE_ROWCOUNT,
	/* in a row that is too large */
	PLACE_LARGE_ROW,
	PLACE_LARGE_CELLS,
	PLACE_LARGE_CELL,
	PLACE_LARGE_NUM,
	PLACE_LARGE_ALIAS,
	PLACE_LARGE_VALUE
} GridPlace;

static const struct
{
	GridPlace	in;
	const char *name;			/* in any case */
	GridPlace	leads_to;
}			members[] = {
	{PLACE_TOP, "Result", PLACE_RESULT},
	{PLACE_TOP, "ErrorAlert", PLACE_ALERTS},
	{PLACE_TOP, "GRID", PLACE_GRID},
	{PLACE_TOP, "HEADER", PLACE_HEADER},
	{PLACE_RESULT, "ResultData", PLACE_RESULT_DATA},
	{PLACE_RESULT, "ErrorAlert", PLACE_ALERTS},
	{PLACE_RESULT_DATA, "GRID", PLACE_GRID},
	{PLACE_RESULT_DATA, "GRID1", PLACE_GRID},
	{PLACE_RESULT_DATA, "HEADER", PLACE_HEADER},
	{PLACE_RESULT_DATA, "ErrorAlert", PLACE_ALERTS},
	{PLACE_GRID, "METADATA", PLACE_METADATA},
	{PLACE_GRID, "FIELDS", PLACE_FIELDS},
	{PLACE_GRID, "HEADER", PLACE_HEADER},
	{PLACE_GRID, "DATA", PLACE_DATA},
	{PLACE_GRID, "CURRENTCURSORPOSITION", PLACE_CURSOR},
	{PLACE_GRID, "MORERECORDPRESENT", PLACE_MORE},
	{PLACE_GRID, "RECORDS", PLACE_RECORDS},
	{PLACE_GRID, "TOTALROWS", PLACE_TOTALROWS},
	{PLACE_GRID, "TOTAL-COUNT", PLACE_TOTAL_COUNT},
	{PLACE_GRID, "ROWCOUNT", PLACE_ROWCOUNT},
	{PLACE_METADATA, "CURRENTCURSORPOSITION", PLACE_CURSOR},
	{PLACE_METADATA, "MORERECORDPRESENT", PLACE_MORE},
	{PLACE_METADATA, "RECORDS", PLACE_RECORDS},
	{PLACE_METADATA, "TOTALROWS", PLACE_TOTALROWS},
	{PLACE_METADATA, "TOTAL-COUNT", PLACE_TOTAL_COUNT},
	{PLACE_METADATA, "ROWCOUNT", PLACE_ROWCOUNT},
	{PLACE_FIELDS, "FIELD", PLACE_FIELD_LIST},
	{PLACE_HEADER, "DATATABLE", PLACE_DATATABLE},
	{PLACE_DATATABLE, "COLUMNS", PLACE_FIELDS},
	{PLACE_FIELDS, "COLUMN", PLACE_FIELD_LIST},
	{PLACE_FIELD, "aliasnum", PLACE_FIELD_NUM},
	{PLACE_FIELD, "INDEX", PLACE_FIELD_NUM},
	{PLACE_FIELD, "name", PLACE_FIELD_NAME},
	{PLACE_DATA, "ROW", PLACE_ROWS},
	{PLACE_ALERT, "Message", PLACE_ALERT_MESSAGE},
	{PLACE_ALERT, "Name", PLACE_ALERT_NAME},
	{PLACE_LARGE_ROW, "D", PLACE_LARGE_CELLS},
	{PLACE_LARGE_ROW, "CELL", PLACE_LARGE_CELLS},
	{PLACE_LARGE_CELL, "n", PLACE_LARGE_NUM},
	{PLACE_LARGE_CELL, "aliasnum", PLACE_LARGE_NUM},
	{PLACE_LARGE_CELL, "ALIAS_NAME", PLACE_LARGE_ALIAS},
	{PLACE_LARGE_CELL, "name", PLACE_LARGE_ALIAS},
	{PLACE_LARGE_CELL, "t", PLACE_LARGE_ALIAS},
	{PLACE_LARGE_CELL, "value", PLACE_LARGE_VALUE},
};

/* How much of the next piece a carried row is tried with. */
#define PFA_GRID_TRIED_BYTES 8192

/* A cell of a row that is too large, with its text. */
typedef struct LargeCell
{
	PfaCell		cell;
	char		text[PFA_JSON_TOKEN_SIZE];
} LargeCell;

struct PfaGridParser
{
	PfaGridLimits limits;
	PfaGridLayout *layout;
	PfaGridLayout *incoming;	/* the field list being read */
	PfaJsonStream stream;
	PfaRowParser row;
	PfaGridResult result;

	unsigned char *places;		/* of the open containers */
	GridPlace	member;			/* where the value of the last name goes */
	size_t		nbytes;			/* of the answer so far */
	int			bom;			/* bytes of a byte order mark seen */

	char	   *carry;			/* a row that has not ended yet */
	size_t		carry_len;
	size_t		carry_room;
	size_t		carry_at;		/* its position in the answer */
	bool		carrying;
	bool		carry_tried;	/* with the beginning of the next piece */
	bool		scan_string;	/* the end of the carry is in a string */
	bool		scan_escape;	/* behind a backslash */
	int64_t		scan_depth;

	bool		field_has_num;
	int			field_num;
	size_t		field_name_len;
	char		field_name[PFA_JSON_TOKEN_SIZE];
	GridPlace	total_from;

	LargeCell	large_num;
	LargeCell	large_alias;
	LargeCell	large_value;

	bool		alerted;
	char		alert_name[128];
	char		alert_message[320];
};

/* ---- life ---- */

PfaGridParser *
pfa_grid_parser_create(const PfaMapping *mapping, const char *organization,
					   PfaGridLayout *layout, const PfaGridLimits *limits,
					   PfaBatch *batch)
{
	PfaGridParser *parser = calloc(1, sizeof(PfaGridParser));
	bool		ok;

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
	parser->total_from = PLACE_OTHER;
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

static bool
end_with(PfaGridParser *parser, PfaGridStatus status, const char *error)
{
	parser->result.status = status;
	snprintf(parser->result.error, sizeof(parser->result.error), "%s", error);
	return false;
}

static bool
malformed(PfaGridParser *parser, size_t at, const char *error)
{
	parser->result.status = PFA_GRID_MALFORMED;
	snprintf(parser->result.error, sizeof(parser->result.error),
			 "malformed answer at byte %zu: %s", at, error);
	return false;
}

static bool
row_failed(PfaGridParser *parser, PfaRowStatus status, size_t at)
{
	switch (status)
	{
		case PFA_ROW_NEEDS_LAYOUT:
			return end_with(parser, PFA_GRID_NEEDS_LAYOUT,
							"rows have cells without a known field");
		case PFA_ROW_OUT_OF_MEMORY:
			return end_with(parser, PFA_GRID_OUT_OF_MEMORY, "out of memory");
		case PFA_ROW_MALFORMED:
			return malformed(parser, at, parser->row.error);
		default:
			return malformed(parser, at, "row does not end where it should");
	}
}

/* ---- scalars of the envelope ---- */

/* The string or scalar just read; blank for null.  Returns its length. */
static size_t
token_text(PfaGridParser *parser, PfaJsonEvent event, char *text)
{
	PfaJsonStream *stream = &parser->stream;
	size_t		len;

	if (event == PFA_JSON_SCALAR && stream->token[0] == 'n')
		return 0;
	(void) pfa_json_unescape(stream->token, stream->token_len, text, &len);
	return len;
}

/* A count, -1 if it is none; thousands separators are let through. */
static int64_t
parse_count(const char *text, size_t len)
{
	int64_t		value = 0;
	bool		any = false;
	size_t		i;

	for (i = 0; i < len; i++)
	{
		if (text[i] >= '0' && text[i] <= '9')
		{
			if (value > INT64_MAX / 10 - 1)
				return -1;
			value = value * 10 + (text[i] - '0');
			any = true;
		}
		else if (!json_is_space(text[i]) && text[i] != ',')
			return -1;
	}
	return any ? value : -1;
}

static void
take_total(PfaGridParser *parser, GridPlace from, int64_t count)
{
	if (count < 0)
		return;
	if (parser->total_from == PLACE_OTHER || from <= parser->total_from)
	{
		parser->total_from = from;
		parser->result.total = count;
	}
}

static void
take_alert(PfaGridParser *parser, GridPlace place, const char *text,
		   size_t len)
{
	if (len == 0)
		return;
	parser->alerted = true;
	if (place == PLACE_ALERT_NAME && parser->alert_name[0] == '\0')
		pfa_json_printable(parser->alert_name, sizeof(parser->alert_name),
						   text, len);
	if (place != PLACE_ALERT_NAME && parser->alert_message[0] == '\0')
		pfa_json_printable(parser->alert_message,
						   sizeof(parser->alert_message), text, len);
}

static void
take_large(PfaGridParser *parser, LargeCell *large, PfaJsonEvent event)
{
	PfaJsonStream *stream = &parser->stream;

	large->cell.kind = event == PFA_JSON_STRING ? PFA_CELL_ESCAPED :
		stream->token[0] == 'n' ? PFA_CELL_NULL : PFA_CELL_SCALAR;
	if (event == PFA_JSON_STRING &&
		memchr(stream->token, '\\', stream->token_len) == NULL)
		large->cell.kind = PFA_CELL_STRING;
	memcpy(large->text, stream->token, stream->token_len);
	large->cell.text = large->text;
	large->cell.len = stream->token_len;
	/* a text that was cut is too long anyway, but must end in a character */
	if (stream->token_cut && large->cell.kind == PFA_CELL_STRING)
		large->cell.len = pfa_json_utf8_cut(large->text, large->cell.len,
											large->cell.len - 4);
}

static bool
take_scalar(PfaGridParser *parser, GridPlace place, PfaJsonEvent event,
			size_t at)
{
	char		text[PFA_JSON_TOKEN_SIZE];
	size_t		len = token_text(parser, event, text);
	int64_t		count;

	switch (place)
	{
		case PLACE_CURSOR:
			parser->result.cursor = parse_count(text, len);
			break;
		case PLACE_MORE:
			if (len == 1 && (text[0] == '+' || text[0] == '-'))
				parser->result.more = text[0] == '+';
			break;
		case PLACE_RECORDS:
		case PLACE_TOTALROWS:
		case PLACE_TOTAL_COUNT:
		case PLACE_ROWCOUNT:
			take_total(parser, place, parse_count(text, len));
			break;
		case PLACE_FIELD_NUM:
			count = parse_count(text, len);
			parser->field_has_num = count >= 0 &&
				count <= PFA_GRID_MAX_ALIASNUM;
			parser->field_num = (int) count;
			break;
		case PLACE_FIELD_NAME:
			memcpy(parser->field_name, text, len);
			parser->field_name_len = len;
			break;
		case PLACE_ALERTS:
		case PLACE_ALERT:
		case PLACE_ALERT_MESSAGE:
		case PLACE_ALERT_NAME:
			if (event == PFA_JSON_STRING)
				take_alert(parser, place, text, len);
			break;
		case PLACE_LARGE_NUM:
			take_large(parser, &parser->large_num, event);
			break;
		case PLACE_LARGE_ALIAS:
			take_large(parser, &parser->large_alias, event);
			break;
		case PLACE_LARGE_VALUE:
			take_large(parser, &parser->large_value, event);
			break;
		case PLACE_DATA:
		case PLACE_ROWS:
		case PLACE_ROW:
			/* taken for no rows, they might be missed as vanished */
			if (len > 0)
				return malformed(parser, at, "rows are not objects");
			break;
		default:
			break;
	}
	return true;
}

/* ---- the field list ---- */

static bool
field_done(PfaGridParser *parser)
{
	if (!parser->field_has_num || parser->field_name_len == 0)
		return true;
	if (pfa_grid_layout_size(parser->incoming) >= parser->limits.max_fields)
		return end_with(parser, PFA_GRID_MALFORMED,
						"answer has too many fields");
	if (!pfa_grid_layout_add(parser->incoming, parser->field_num,
							 parser->field_name, parser->field_name_len))
		return end_with(parser, PFA_GRID_OUT_OF_MEMORY, "out of memory");
	return true;
}

static bool
field_list_done(PfaGridParser *parser)
{
	bool		changed;

	if (pfa_grid_layout_size(parser->incoming) == 0)
		return true;
	changed = !pfa_grid_layout_equal(parser->layout, parser->incoming);
	if (changed)
		pfa_grid_layout_move(parser->layout, parser->incoming);
	parser->row.layout_is_fresh = true;
	parser->result.has_fields = true;
	/* rows before this list were read by another one: all is in doubt */
	if (changed && parser->row.used_layout)
		return end_with(parser, PFA_GRID_NEEDS_LAYOUT,
						"field list does not fit the rows before it");
	return true;
}

/* ---- structure of the envelope ---- */

static GridPlace
innermost(const PfaGridParser *parser)
{
	return parser->stream.depth > 0 ?
		(GridPlace) parser->places[parser->stream.depth - 1] : PLACE_OTHER;
}

/* Where the value now beginning goes, with containers open outside of it. */
static GridPlace
value_place(const PfaGridParser *parser, int outside)
{
	if (outside == 0)
		return PLACE_TOP;
	if (parser->stream.stack[outside - 1] == '{')
		return parser->member;
	switch (parser->places[outside - 1])
	{
		case PLACE_FIELD_LIST:
			return PLACE_FIELD;
		case PLACE_ROWS:
			return PLACE_ROW;
		case PLACE_ALERTS:
			return PLACE_ALERT;
		case PLACE_LARGE_CELLS:
			return PLACE_LARGE_CELL;
		default:
			return PLACE_OTHER;
	}
}

static void
take_name(PfaGridParser *parser)
{
	GridPlace	in = innermost(parser);
	char		name[PFA_JSON_TOKEN_SIZE];
	size_t		len;
	size_t		i;

	parser->member = PLACE_OTHER;
	if (in == PLACE_OTHER || parser->stream.token_cut)
		return;
	len = token_text(parser, PFA_JSON_KEY, name);
	for (i = 0; i < sizeof(members) / sizeof(members[0]); i++)
	{
		if (members[i].in == in && strlen(members[i].name) == len &&
			strncasecmp(members[i].name, name, len) == 0)
		{
			parser->member = members[i].leads_to;
			return;
		}
	}
}

/* Is a list also accepted as its only element? */
static GridPlace
element_of(GridPlace place)
{
	switch (place)
	{
		case PLACE_FIELD_LIST:
			return PLACE_FIELD;
		case PLACE_ROWS:
			return PLACE_ROW;
		case PLACE_ALERTS:
			return PLACE_ALERT;
		case PLACE_LARGE_CELLS:
			return PLACE_LARGE_CELL;
		default:
			return place;
	}
}

/* An object was opened; rows do not come here. */
static void
begin_object(PfaGridParser *parser, GridPlace place)
{
	GridPlace	is = element_of(place);

	switch (is)
	{
		case PLACE_GRID:
		case PLACE_HEADER:
			parser->result.has_grid = true;
			break;
		case PLACE_FIELD:
			if (place == PLACE_FIELD_LIST)
				pfa_grid_layout_clear(parser->incoming);
			parser->field_has_num = false;
			parser->field_name_len = 0;
			break;
		case PLACE_ALERT:
			/* an element of the list is an alert, even an empty one */
			parser->alerted |= place == PLACE_ALERT;
			break;
		case PLACE_LARGE_CELL:
			parser->large_num.cell.kind = PFA_CELL_NULL;
			parser->large_alias.cell.kind = PFA_CELL_NULL;
			parser->large_value.cell.kind = PFA_CELL_NULL;
			parser->large_value.cell.text = "";
			parser->large_value.cell.len = 0;
			break;
		case PLACE_TOP:
		case PLACE_RESULT:
		case PLACE_RESULT_DATA:
		case PLACE_METADATA:
		case PLACE_FIELDS:
		case PLACE_DATATABLE:
		case PLACE_DATA:
		case PLACE_LARGE_ROW:
			break;
		case PLACE_LARGE_VALUE:
			parser->large_value.cell.kind = PFA_CELL_NESTED;
			is = PLACE_OTHER;
			break;
		default:
			is = PLACE_OTHER;
			break;
	}
	parser->places[parser->stream.depth - 1] = (unsigned char) is;
}

static bool
begin_array(PfaGridParser *parser, GridPlace place, size_t at)
{
	GridPlace	is = place;

	switch (place)
	{
		case PLACE_FIELDS:
			is = PLACE_FIELD_LIST;
			pfa_grid_layout_clear(parser->incoming);
			break;
		case PLACE_FIELD_LIST:
			pfa_grid_layout_clear(parser->incoming);
			break;
		case PLACE_DATA:
			is = PLACE_ROWS;
			break;
		case PLACE_ROWS:
		case PLACE_ALERTS:
		case PLACE_LARGE_CELLS:
			break;
		case PLACE_ROW:
			return malformed(parser, at, "rows are not objects");
		case PLACE_LARGE_VALUE:
			parser->large_value.cell.kind = PFA_CELL_NESTED;
			is = PLACE_OTHER;
			break;
		default:
			is = PLACE_OTHER;
			break;
	}
	parser->places[parser->stream.depth - 1] = (unsigned char) is;
	return true;
}

/* The container at places[depth] was closed. */
static bool
end_container(PfaGridParser *parser)
{
	int			depth = parser->stream.depth;
	GridPlace	was = (GridPlace) parser->places[depth];
	PfaRowStatus status;

	switch (was)
	{
		case PLACE_FIELD:
			if (!field_done(parser))
				return false;
			if (parser->places[depth - 1] != PLACE_FIELD_LIST)
				return field_list_done(parser);
			return true;
		case PLACE_FIELD_LIST:
			return field_list_done(parser);
		case PLACE_LARGE_CELL:
			pfa_row_oversized_cell(&parser->row, &parser->large_alias.cell,
								   &parser->large_num.cell,
								   &parser->large_value.cell);
			return true;
		case PLACE_LARGE_ROW:
			status = pfa_row_reject_oversized(&parser->row);
			return status == PFA_ROW_COMPLETE ||
				row_failed(parser, status, parser->nbytes);
		default:
			return true;
	}
}

/* The outermost value is complete. */
static bool
answer_done(PfaGridParser *parser)
{
	if (parser->alerted)
	{
		const char *name = parser->alert_name;
		const char *message = parser->alert_message;

		parser->result.status = PFA_GRID_ALERT;
		snprintf(parser->result.error, sizeof(parser->result.error),
				 "%s%s%s%s",
				 message[0] != '\0' ? message :
				 name[0] != '\0' ? name : "alert without a message",
				 message[0] != '\0' && name[0] != '\0' ? " (" : "",
				 message[0] != '\0' ? name : "",
				 message[0] != '\0' && name[0] != '\0' ? ")" : "");
		return false;
	}
	if (!parser->result.has_grid)
		return end_with(parser, PFA_GRID_MALFORMED, "answer holds no grid");
	parser->result.status = PFA_GRID_DONE;
	return true;
}

/* ---- rows ---- */

static bool
begin_large_row(PfaGridParser *parser)
{
	PfaRowStatus status = pfa_row_begin_oversized(&parser->row);

	if (status != PFA_ROW_COMPLETE)
		return row_failed(parser, status, parser->nbytes);
	parser->places[parser->stream.depth - 1] = PLACE_LARGE_ROW;
	return true;
}

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
		size_t		room = 2 * (parser->carry_len + len) + 4096;
		char	   *grown = realloc(parser->carry, room);

		if (grown == NULL)
			return end_with(parser, PFA_GRID_OUT_OF_MEMORY, "out of memory");
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
row_in_place(PfaGridParser *parser, const char **p, const char *end,
			 size_t at)
{
	const char *start = *p - 1;
	const char *limit = end;
	PfaRowStatus status;

	if ((size_t) (end - start) > parser->limits.max_record_bytes)
		limit = start + parser->limits.max_record_bytes;
	if (limit == start)
		return begin_large_row(parser);
	status = pfa_row_parse(&parser->row, start, limit, parser->stream.depth,
						   p);
	if (status == PFA_ROW_COMPLETE)
	{
		pfa_json_stream_close(&parser->stream);
		status = pfa_row_commit(&parser->row);
		return status == PFA_ROW_COMPLETE || row_failed(parser, status, at);
	}
	if (status != PFA_ROW_SHORT)
	{
		if (status == PFA_ROW_MALFORMED)
			at += (size_t) (parser->row.error_at - start);
		return row_failed(parser, status, at);
	}
	if (limit < end)
		return begin_large_row(parser);
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
	size_t		at = parser->carry_at;

	parser->carrying = false;
	status = pfa_row_parse(&parser->row, parser->carry, end,
						   parser->stream.depth, &next);
	if (status == PFA_ROW_MALFORMED)
		at += (size_t) (parser->row.error_at - parser->carry);
	if (status == PFA_ROW_COMPLETE && next != end)
		status = PFA_ROW_SHORT;
	if (status != PFA_ROW_COMPLETE)
		return row_failed(parser, status, at);
	pfa_json_stream_close(&parser->stream);
	status = pfa_row_commit(&parser->row);
	return status == PFA_ROW_COMPLETE || row_failed(parser, status, at);
}

/* ---- the loop ---- */

/* data lies at position at of the answer. */
static bool
process(PfaGridParser *parser, const char *data, const char *end, size_t at)
{
	PfaJsonStream *stream = &parser->stream;
	const char *p = data;
	PfaJsonEvent event;
	GridPlace	place;
	bool		ok = true;

	while (ok && p < end)
	{
		event = pfa_json_stream_next(stream, &p, end);
		switch (event)
		{
			case PFA_JSON_NEED_MORE:
				return true;
			case PFA_JSON_KEY:
				take_name(parser);
				continue;
			case PFA_JSON_OBJECT_BEGIN:
				place = value_place(parser, stream->depth - 1);
				if (element_of(place) == PLACE_ROW)
					ok = row_in_place(parser, &p, end,
									  at + (size_t) (p - 1 - data));
				else
					begin_object(parser, place);
				break;
			case PFA_JSON_ARRAY_BEGIN:
				place = value_place(parser, stream->depth - 1);
				ok = begin_array(parser, place, at + (size_t) (p - 1 - data));
				break;
			case PFA_JSON_OBJECT_END:
			case PFA_JSON_ARRAY_END:
				ok = end_container(parser);
				break;
			case PFA_JSON_STRING:
			case PFA_JSON_SCALAR:
				ok = take_scalar(parser, value_place(parser, stream->depth),
								 event, at + (size_t) (p - data));
				break;
			case PFA_JSON_ERROR:
				if (stream->depth == 0 && stream->state != PFA_JSON_AT_END)
					return end_with(parser, PFA_GRID_MALFORMED,
									"answer is not JSON");
				return malformed(parser, at + (size_t) (p - data),
								 stream->error);
		}
		if (ok && stream->state == PFA_JSON_AT_END &&
			parser->result.status == PFA_GRID_MORE)
			ok = answer_done(parser);
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
	size_t		len = (size_t) (end - *data);
	size_t		before = parser->carry_len;
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
		row_failed(parser, status, parser->carry_at);
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
	size_t		len;
	bool		ok;

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
		char	   *carry = parser->carry;

		/* what was carried goes through the stream, then all the rest */
		parser->carrying = false;
		parser->carry = NULL;
		parser->carry_room = 0;
		ok = begin_large_row(parser) &&
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

/* Some servers begin with a byte order mark, which JSON does not have. */
static const char *
skip_bom(PfaGridParser *parser, const char *data, const char *end)
{
	static const char bom[] = "\xef\xbb\xbf";

	while (data < end && parser->bom >= 0 && parser->bom < 3)
	{
		if (*data != bom[parser->bom])
			break;
		parser->bom++;
		data++;
	}
	if (data < end)
		parser->bom = 3;
	return data;
}

PfaGridStatus
pfa_grid_parser_feed(PfaGridParser *parser, const char *data, size_t len)
{
	PfaGridResult *result = &parser->result;
	const char *p = data;
	const char *end = data + len;
	size_t		before = parser->nbytes;
	bool		ok = true;

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
		p = skip_bom(parser, p, end);
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
					  parser->carry + parser->carry_len,
					  parser->stream.depth, &next) == PFA_ROW_MALFORMED)
		row_failed(parser, PFA_ROW_MALFORMED, parser->carry_at +
				   (size_t) (parser->row.error_at - parser->carry));
	else if (parser->nbytes == 0)
		end_with(parser, PFA_GRID_MALFORMED, "answer is empty");
	else
		end_with(parser, PFA_GRID_MALFORMED, "answer ends in the middle");
	return parser->result.status;
}
