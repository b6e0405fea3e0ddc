/*
 * grid_envelope.c
 *	  What stands around the rows of a griddata answer.
 *
 * For each open container the parser knows the place it has in the answer; a
 * table says which places a member's name leads to, and all else leads to
 * PLACE_OTHER, which is skipped.  So every form of the answer is a line of the
 * table.  Rows too large to keep are read here, too: of their cells only a
 * beginning is looked at, to tell whose they are.
 */
#include "record/grid_private.h"

#include "record/json_scan.h"
#include "record/json_text.h"

#include <stdio.h>
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
	GridPlace in;
	const char *name; /* in any case */
	GridPlace leads_to;
} members[] = {
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

/* ---- scalars of the envelope ---- */

/* The string or scalar just read; blank for null.  Returns its length. */
static size_t
token_text(PfaGridParser *parser, PfaJsonEvent event, char *text)
{
	PfaJsonStream *stream = &parser->stream;
	size_t len;

	if (event == PFA_JSON_SCALAR && stream->token[0] == 'n')
		return 0;
	(void) pfa_json_unescape(stream->token, stream->token_len, text, &len);
	return len;
}

/* A count, -1 if it is none; thousands separators are let through. */
static int64_t
parse_count(const char *text, size_t len)
{
	int64_t value = 0;
	bool any = false;
	size_t i;

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
	if (parser->total_from == PLACE_OTHER || (int) from <= parser->total_from)
	{
		parser->total_from = from;
		parser->result.total = count;
	}
}

static void
take_alert(PfaGridParser *parser, GridPlace place, const char *text, size_t len)
{
	if (len == 0)
		return;
	parser->alerted = true;
	if (place == PLACE_ALERT_NAME && parser->alert_name[0] == '\0')
		pfa_json_printable(parser->alert_name, sizeof(parser->alert_name), text,
						   len);
	if (place != PLACE_ALERT_NAME && parser->alert_message[0] == '\0')
		pfa_json_printable(parser->alert_message, sizeof(parser->alert_message),
						   text, len);
}

static void
take_large(PfaGridParser *parser, PfaGridLargeCell *large, PfaJsonEvent event)
{
	PfaJsonStream *stream = &parser->stream;

	large->cell.kind = event == PFA_JSON_STRING ? PFA_CELL_ESCAPED :
		stream->token[0] == 'n'                 ? PFA_CELL_NULL :
												  PFA_CELL_SCALAR;
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
	char text[PFA_JSON_TOKEN_SIZE];
	size_t len = token_text(parser, event, text);
	int64_t count;

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
				return pfa_grid_malformed(parser, at, "rows are not objects");
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
		return pfa_grid_end_with(parser, PFA_GRID_MALFORMED,
								 "answer has too many fields");
	if (!pfa_grid_layout_add(parser->incoming, parser->field_num,
							 parser->field_name, parser->field_name_len))
		return pfa_grid_end_with(parser, PFA_GRID_OUT_OF_MEMORY,
								 "out of memory");
	return true;
}

static bool
field_list_done(PfaGridParser *parser)
{
	bool changed;

	if (pfa_grid_layout_size(parser->incoming) == 0)
		return true;
	changed = !pfa_grid_layout_equal(parser->layout, parser->incoming);
	if (changed)
		pfa_grid_layout_move(parser->layout, parser->incoming);
	parser->row.layout_is_fresh = true;
	parser->result.has_fields = true;
	/* rows before this list were read by another one: all is in doubt */
	if (changed && parser->row.used_layout)
		return pfa_grid_end_with(parser, PFA_GRID_NEEDS_LAYOUT,
								 "field list does not fit the rows before it");
	return true;
}

/* ---- structure of the envelope ---- */

static GridPlace
innermost(const PfaGridParser *parser)
{
	return parser->stream.depth > 0 ?
		(GridPlace) parser->places[parser->stream.depth - 1] :
		PLACE_OTHER;
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
	GridPlace in = innermost(parser);
	char name[PFA_JSON_TOKEN_SIZE];
	size_t len;
	size_t i;

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
	GridPlace is = element_of(place);

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
	GridPlace is = place;

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
		case PLACE_LARGE_CELLS:
			parser->large_ncells = 0;
			break;
		case PLACE_ROWS:
		case PLACE_ALERTS:
			break;
		case PLACE_ROW:
			return pfa_grid_malformed(parser, at, "rows are not objects");
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
	int depth = parser->stream.depth;
	GridPlace was = (GridPlace) parser->places[depth];
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
				pfa_grid_row_failed(parser, status, parser->nbytes);
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
		snprintf(parser->result.error, sizeof(parser->result.error), "%s%s%s%s",
				 message[0] != '\0'  ? message :
					 name[0] != '\0' ? name :
									   "alert without a message",
				 message[0] != '\0' && name[0] != '\0' ? " (" : "",
				 message[0] != '\0' ? name : "",
				 message[0] != '\0' && name[0] != '\0' ? ")" : "");
		return false;
	}
	if (!parser->result.has_grid)
		return pfa_grid_end_with(parser, PFA_GRID_MALFORMED,
								 "answer holds no grid");
	parser->result.status = PFA_GRID_DONE;
	return true;
}

/* ---- events ---- */

bool
pfa_grid_row_begins(const PfaGridParser *parser)
{
	return element_of(value_place(parser, parser->stream.depth - 1)) ==
		PLACE_ROW;
}

bool
pfa_grid_begin_large_row(PfaGridParser *parser)
{
	PfaRowStatus status = pfa_row_begin_oversized(&parser->row);

	if (status != PFA_ROW_COMPLETE)
		return pfa_grid_row_failed(parser, status, parser->nbytes);
	parser->places[parser->stream.depth - 1] = PLACE_LARGE_ROW;
	return true;
}

/* A value ended.  Rows have the same limit of cells whatever their size. */
static bool
count_large_cell(PfaGridParser *parser, size_t at)
{
	if (innermost(parser) == PLACE_LARGE_CELLS &&
		++parser->large_ncells > parser->limits.max_fields)
		return pfa_grid_malformed(parser, at, "too many cells in a row");
	return true;
}

bool
pfa_grid_take_event(PfaGridParser *parser, PfaJsonEvent event, size_t at)
{
	PfaJsonStream *stream = &parser->stream;
	bool ok = true;

	switch (event)
	{
		case PFA_JSON_KEY:
			take_name(parser);
			break;
		case PFA_JSON_OBJECT_BEGIN:
			begin_object(parser, value_place(parser, stream->depth - 1));
			break;
		case PFA_JSON_ARRAY_BEGIN:
			ok = begin_array(parser, value_place(parser, stream->depth - 1),
							 at - 1);
			break;
		case PFA_JSON_OBJECT_END:
		case PFA_JSON_ARRAY_END:
			ok = end_container(parser) && count_large_cell(parser, at);
			break;
		case PFA_JSON_STRING:
		case PFA_JSON_SCALAR:
			ok = take_scalar(parser, value_place(parser, stream->depth), event,
							 at) &&
				count_large_cell(parser, at);
			break;
		default:
			break;
	}
	if (ok && stream->state == PFA_JSON_AT_END &&
		parser->result.status == PFA_GRID_MORE)
		ok = answer_done(parser);
	return ok;
}
