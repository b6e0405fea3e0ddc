/*
 * grid.c
 *	  Grid data: a request's filters and position, and the page it gets.
 *
 * A page is a header, slices of the blocks' row texts as they lie in memory,
 * and a trailer.  Only a row that a fault changes is rendered for the page.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "sim.h"

typedef struct GridRequest
{
	SimSettings settings; /* as they were when the request came */
	SimFilter filters[SIM_MAX_FILTERS];
	int nfilters;
	int64_t offset;
	int64_t count;
	SimOrg *org; /* the one asked for, where it exists */
} GridRequest;

static bool
parse_operator(const char *text, SimOperator *op)
{
	static const struct
	{
		const char *name;
		SimOperator op;
	} names[] = {{"BEGINS", SIM_OP_BEGINS}, {"CONTAINS", SIM_OP_CONTAINS},
				 {"=", SIM_OP_EQ},          {"EQUALS", SIM_OP_EQ},
				 {"!=", SIM_OP_NE},         {"<>", SIM_OP_NE},
				 {"<", SIM_OP_LT},          {">", SIM_OP_GT},
				 {"<=", SIM_OP_LE},         {">=", SIM_OP_GE}};
	size_t i;

	for (i = 0; text && i < lengthof(names); i++)
		if (strcasecmp(names[i].name, text) == 0)
		{
			*op = names[i].op;
			return true;
		}
	return false;
}

/* NULL, or what is wrong. */
static const char *
parse_filter(GridRequest *grid, const SimJson *json)
{
	SimFilter *filter = &grid->filters[grid->nfilters];
	const char *alias = sim_json_text(json, "ALIAS_NAME");
	const char *value = sim_json_text(json, "VALUE");
	const char *joiner = sim_json_text(json, "JOINER");

	if (grid->nfilters == SIM_MAX_FILTERS)
		return "Too many filters";
	memset(filter, 0, sizeof(*filter));
	filter->field = alias ? sim_field_find(alias) : -1;
	if (filter->field < 0 || strcasecmp(alias, grid->settings.drop) == 0)
		return "The filter's field is not a field of the grid";
	if (!parse_operator(sim_json_text(json, "OPERATOR"), &filter->op))
		return "The filter's operator is not a valid operator";
	if (value == NULL || strlen(value) >= sizeof(filter->value))
		return "The filter's value is not a valid value";
	if (!grid->settings.delta &&
		sim_fields[filter->field].kind == SIM_KIND_MODIFIED)
		return "The field cannot be used in a filter";
	if (!grid->settings.keyset && sim_fields[filter->field].kind == SIM_KIND_ID)
		return "The field cannot be used in a filter";
	strcpy(filter->value, value);
	filter->seqnum = sim_json_int(json, "SEQNUM", grid->nfilters);
	filter->or_next = joiner && strcasecmp(joiner, "OR") == 0;
	grid->nfilters++;
	return NULL;
}

static const char *
parse_filters(GridRequest *grid, const SimJson *json)
{
	const SimJson *single = sim_json_get(json, "ADDON_FILTER");
	const SimJson *several = sim_json_get(sim_json_get(json,
													   "MULTIADDON_FILTERS"),
										  "MADDON_FILTER");
	const SimJson *item;
	const char *error = NULL;
	int i;
	int j;

	if (single && single->type == SIM_JSON_OBJECT)
		error = parse_filter(grid, single);
	if (several && several->type == SIM_JSON_OBJECT)
		return error ? error : parse_filter(grid, several);
	for (item = several ? several->child : NULL; item && !error;
		 item = item->next)
		error = parse_filter(grid, item);
	/* by SEQNUM; stable, for they are few */
	for (i = 1; i < grid->nfilters; i++)
		for (j = i;
			 j > 0 && grid->filters[j - 1].seqnum > grid->filters[j].seqnum;
			 j--)
		{
			SimFilter swap = grid->filters[j];

			grid->filters[j] = grid->filters[j - 1];
			grid->filters[j - 1] = swap;
		}
	return error;
}

static void
describe_filters(SimRequest *request, const GridRequest *grid)
{
	static const char *const names[] = {"BEGINS", "CONTAINS", "=",  "<>",
										"<",      ">",        "<=", ">="};
	size_t used = 0;
	int i;

	for (i = 0; i < grid->nfilters; i++)
	{
		const SimFilter *f = &grid->filters[i];

		if (sim_fields[f->field].kind == SIM_KIND_ORG && !request->org[0])
			snprintf(request->org, sizeof(request->org), "%.60s", f->value);
		if (used < sizeof(request->filter))
			used += (size_t) snprintf(request->filter + used,
									  sizeof(request->filter) - used,
									  "%s%s %s %s", i ? "; " : "",
									  sim_fields[f->field].alias, names[f->op],
									  f->value);
	}
}

/*
 * How many rows of the organization lie before the page: what the faults'
 * after= and mutate go by, for paging by offset and by id alike.
 */
static int64_t
reading_position(const GridRequest *grid)
{
	SimListing *listing;
	int64_t position = 0;
	int i;

	if (grid->org == NULL)
		return grid->offset;
	listing = sim_org_listing(grid->org);
	for (i = 0; i < grid->nfilters; i++)
		if (sim_fields[grid->filters[i].field].kind == SIM_KIND_ID &&
			(grid->filters[i].op == SIM_OP_GT ||
			 grid->filters[i].op == SIM_OP_GE))
			position = sim_listing_search(listing, grid->filters[i].value,
										  grid->filters[i].op == SIM_OP_GT);
	sim_listing_release(listing);
	return position + grid->offset;
}

/* Keep the filters on the organization only, or none (text=all). */
static void
ignore_filters(GridRequest *grid, const SimFault *fault)
{
	int kept = 0;
	int i;

	for (i = 0; i < grid->nfilters; i++)
		if (strcmp(fault->text, "all") != 0 &&
			sim_fields[grid->filters[i].field].kind == SIM_KIND_ORG)
			grid->filters[kept++] = grid->filters[i];
	grid->nfilters = kept;
}

/* ---- rows of a page ---- */

/* What a page's loop knows about the block it is in. */
typedef struct PageBlock
{
	SimBlock *block;
	SimRowText *base;
	SimRowText *patch;
	const uint32_t *source;
} PageBlock;

static void
page_enter(SimBody *body, PageBlock *at, SimRowRef ref)
{
	if (at->block == ref.block)
		return;
	free((void *) at->source);
	at->block = ref.block;
	sim_block_text(ref.block, sim_data.orgs[ref.org], &at->base, &at->patch,
				   &at->source);
	sim_body_text(body, at->base);
	if (at->patch)
		sim_body_text(body, at->patch);
}

/* The text of a row, with its comma; joined to the piece before if it can. */
static void
page_add(SimBody *body, const PageBlock *at, uint32_t row)
{
	const SimRowText *text = at->base;
	const char *data;
	size_t len;

	if (at->source)
		row = at->source[row];
	if (row & SIM_PATCHED)
	{
		text = at->patch;
		row &= ~SIM_PATCHED;
	}
	data = text->data + text->offsets[row];
	len = text->offsets[row + 1] - text->offsets[row];
	if (body->npieces > 0)
	{
		struct MHD_IoVec *last = &body->pieces[body->npieces - 1];

		if ((const char *) last->iov_base + last->iov_len == data)
		{
			last->iov_len += len;
			body->total += len;
			return;
		}
	}
	sim_body_piece(body, data, len);
}

/* What a fault puts into a cell; the fill of a big record comes apart. */
static bool
odd_cell(const SimStrike *strike, SimBuf *raw, size_t *fill)
{
	int64_t depth;
	int64_t i;

	*fill = 0;
	if (strike->on[SIM_FAULT_BIG_RECORD])
	{
		int64_t bytes = strike->fault[SIM_FAULT_BIG_RECORD].bytes;

		*fill = bytes > 0 ? (size_t) bytes : 10 << 20;
		sim_buf_puts(raw, "\"\"");
	}
	else if (strike->on[SIM_FAULT_BAD_UTF8])
		sim_buf_puts(raw, "\"bad \xc3\x28 \xff\xfe \xed\xa0\x80 \xc0\xaf\"");
	else if (strike->on[SIM_FAULT_NUL])
		sim_buf_puts(raw, "\"nul \\u0000 inside\"");
	else if (strike->on[SIM_FAULT_SURROGATES])
		sim_buf_puts(raw, "\"lone \\ud83d and \\ude00\\ud83d end\"");
	else if (strike->on[SIM_FAULT_RAW])
		sim_buf_puts(raw, strike->fault[SIM_FAULT_RAW].text);
	else if (strike->on[SIM_FAULT_DEEP])
	{
		depth = strike->fault[SIM_FAULT_DEEP].n;
		depth = depth > 0 ? depth : 100000;
		for (i = 0; i < depth; i++)
			sim_buf_puts(raw, "[");
		for (i = 0; i < depth; i++)
			sim_buf_puts(raw, "]");
	}
	else
		return false;
	return true;
}

/* Which record the odd cell falls on: row= of the organization's listing. */
static bool
odd_record(const GridRequest *grid, const SimStrike *strike, char *id,
		   size_t size)
{
	static const SimFaultKind kinds[] = {SIM_FAULT_BIG_RECORD,
										 SIM_FAULT_BAD_UTF8,
										 SIM_FAULT_NUL,
										 SIM_FAULT_SURROGATES,
										 SIM_FAULT_DEEP,
										 SIM_FAULT_RAW};
	SimListing *listing;
	size_t i;
	bool found = false;

	for (i = 0; i < lengthof(kinds) && !found; i++)
	{
		int64_t row = strike->fault[kinds[i]].row;

		if (!strike->on[kinds[i]] || grid->org == NULL)
			continue;
		listing = sim_org_listing(grid->org);
		if (row < listing->nrows)
		{
			snprintf(id, size, "%s", sim_listing_record(listing, row)->id);
			found = true;
		}
		sim_listing_release(listing);
	}
	return found;
}

static void
page_add_odd(SimBody *body, const SimStrike *strike, SimRowRef ref)
{
	SimBuf raw = {0};
	SimBuf row = {0};
	SimBuf rest = {0};
	size_t fill;
	char *mark;

	odd_cell(strike, &raw, &fill);
	if (fill > 0)
	{
		/* a mark no row contains, to be replaced by the fill */
		raw.len = 0;
		sim_buf_puts(&raw, "\"\x1e\"");
	}
	sim_render_row(&row, &ref.block->records[ref.row],
				   sim_data.orgs[ref.org]->name,
				   sim_field_find(strike->on[SIM_FAULT_RAW] ?
									  strike->fault[SIM_FAULT_RAW].field :
									  "description"),
				   raw.data, raw.len);
	if (fill > 0 && (mark = strchr(row.data, '\x1e')) != NULL)
	{
		sim_buf_puts(&rest, mark + 1);
		row.len = (size_t) (mark - row.data);
		sim_body_own(body, &row);
		sim_body_fill(body, 'x', fill);
		sim_body_own(body, &rest);
	}
	else
		sim_body_own(body, &row);
	sim_buf_free(&raw);
}

/* The rows [offset, end) of the list; gives how many were sent. */
static int64_t
page_rows(SimBody *body, const GridRequest *grid, const SimStrike *strike,
		  const SimRows *rows, int64_t end)
{
	PageBlock at = {0};
	char odd_id[100];
	bool odd = odd_record(grid, strike, odd_id, sizeof(odd_id));
	int64_t hide = strike->on[SIM_FAULT_HIDDEN] ?
		(strike->fault[SIM_FAULT_HIDDEN].n > 0 ?
			 strike->fault[SIM_FAULT_HIDDEN].n :
			 100) :
		0;
	int64_t sent = 0;
	int64_t i;

	for (i = grid->offset; i < end; i++)
	{
		int64_t row = i;
		SimRowRef ref;
		const SimRecord *record;

		if (strike->on[SIM_FAULT_UNSORTED])
			row = end - 1 - (i - grid->offset);
		ref = sim_rows_get(rows, row);
		record = &ref.block->records[ref.row];
		if (hide && record->serial % hide == 0)
			continue;
		if (odd && strcmp(record->id, odd_id) == 0 &&
			sim_data.orgs[ref.org] == grid->org)
			page_add_odd(body, strike, ref);
		else
		{
			page_enter(body, &at, ref);
			page_add(body, &at, ref.row);
		}
		sent++;
		if (strike->on[SIM_FAULT_DUP] &&
			i == grid->offset + strike->fault[SIM_FAULT_DUP].row)
		{
			/* the same row once more */
			page_enter(body, &at, ref);
			page_add(body, &at, ref.row);
			sent++;
		}
	}
	free((void *) at.source);
	if (sent > 0)
		sim_body_truncate(body, body->total - 1);
	return sent;
}

/* ---- the text around the rows ---- */

static void
add_metadata(SimBuf *buf, const GridRequest *grid, int64_t total,
			 int64_t position, bool more)
{
	int form = grid->settings.total;
	const char *quote = form == SIM_TOTAL_STRING ? "\"" : "";

	sim_buf_printf(buf, "\"METADATA\":{\"CURRENTCURSORPOSITION\":\"%lld\"",
				   (long long) position);
	if (grid->settings.more)
		sim_buf_printf(buf, ",\"MORERECORDPRESENT\":\"%s\"", more ? "+" : "-");
	if (form == SIM_TOTAL_BOTH || form == SIM_TOTAL_RECORDS ||
		form == SIM_TOTAL_STRING)
		sim_buf_printf(buf, ",\"RECORDS\":\"%lld\"", (long long) total);
	sim_buf_puts(buf, "}");
	if (form == SIM_TOTAL_BOTH || form == SIM_TOTAL_TOTALROWS ||
		form == SIM_TOTAL_STRING)
		sim_buf_printf(buf, ",\"TOTALROWS\":%s%lld%s", quote, (long long) total,
					   quote);
	if (form == SIM_TOTAL_TOTAL_COUNT)
		sim_buf_printf(buf, ",\"TOTAL-COUNT\":%lld", (long long) total);
	if (form == SIM_TOTAL_ROWCOUNT)
		sim_buf_printf(buf, ",\"ROWCOUNT\":\"%lld\"", (long long) total);
}

static void
add_fields(SimBuf *buf, bool old_form)
{
	sim_buf_puts(buf,
				 old_form ?
					 ",\"HEADER\":{\"DATATABLE\":{\"COLUMNS\":{\"COLUMN\":" :
					 ",\"FIELDS\":{\"FIELD\":");
	sim_render_fields(buf, old_form);
	sim_buf_puts(buf, old_form ? "}}}" : "}");
}

static void
grid_opens(SimBuf *buf, const GridRequest *grid)
{
	sim_buf_puts(buf,
				 grid->settings.wrapper == SIM_GRID_TOP ?
					 "{\"GRID\":{" :
					 grid->settings.wrapper == SIM_GRID1 ?
					 "{\"Result\":{\"ResultData\":{\"GRID1\":{" :
					 "{\"Result\":{\"ResultData\":{\"GRID\":{");
}

static const char *
grid_closes(const GridRequest *grid)
{
	return grid->settings.wrapper == SIM_GRID_TOP ? "},\"ErrorAlert\":[]}" :
													"}}},\"ErrorAlert\":[]}";
}

static const char *
empty_data(const GridRequest *grid)
{
	switch (grid->settings.empty)
	{
		case SIM_EMPTY_NULL:
			return ",\"DATA\":null";
		case SIM_EMPTY_STRING:
			return ",\"DATA\":\"\"";
		case SIM_EMPTY_ABSENT:
			return "";
		default:
			return ",\"DATA\":{\"ROW\":[]}";
	}
}

/* The total as told, which a fault may falsify. */
static int64_t
told_total(const SimStrike *strike, int64_t total)
{
	const SimFault *fault = &strike->fault[SIM_FAULT_WRONG_TOTAL];

	if (!strike->on[SIM_FAULT_WRONG_TOTAL])
		return total;
	/* n: this total; rows: so many more (or, negative, fewer) */
	if (fault->n >= 0)
		return fault->n;
	total += fault->rows == -1 ? 17 : fault->rows;
	return total > 0 ? total : 0;
}

static enum MHD_Result
answer_data(SimRequest *request, GridRequest *grid)
{
	const SimStrike *strike = &request->strike;
	SimBody *body = sim_body_create();
	SimBuf buf = {0};
	SimRows *rows = sim_rows_select(grid->filters, grid->nfilters, grid->offset,
									grid->count);
	int64_t end = grid->offset + grid->count;
	bool more;
	bool object;

	if (grid->offset > rows->total)
		grid->offset = rows->total;
	if (end > rows->total)
		end = rows->total;
	grid_opens(&buf, grid);
	more = end < rows->total;
	if (strike->on[SIM_FAULT_MORE])
		more = strike->fault[SIM_FAULT_MORE].text[0] ?
			strike->fault[SIM_FAULT_MORE].text[0] == '+' :
			!more;
	add_metadata(&buf, grid, told_total(strike, rows->total), end, more);
	if (grid->settings.fields == SIM_FIELDS_INLINE && !grid->settings.named)
		add_fields(&buf, false);
	if (end == grid->offset)
		sim_buf_puts(&buf, empty_data(grid));
	else
	{
		object = grid->settings.single_object && end - grid->offset == 1;
		sim_buf_puts(&buf,
					 object ? ",\"DATA\":{\"ROW\":" : ",\"DATA\":{\"ROW\":[");
		sim_body_own(body, &buf);
		request->rows = page_rows(body, grid, strike, rows, end);
		if (strike->on[SIM_FAULT_ENDLESS] && request->rows > 0)
		{
			/* the comma is needed again, before each repetition */
			body->repeat = 1;
			sim_body_copy(body, ",");
		}
		sim_buf_puts(&buf, object ? "}" : "]}");
	}
	sim_buf_puts(&buf, grid_closes(grid));
	if (!body->repeat)
		sim_body_own(body, &buf);
	sim_buf_free(&buf);
	sim_rows_release(rows);
	return sim_answer(request, 200, "application/json", body);
}

static enum MHD_Result
answer_head(SimRequest *request, GridRequest *grid)
{
	SimBody *body = sim_body_create();
	SimBuf buf = {0};

	grid_opens(&buf, grid);
	sim_buf_puts(&buf, "\"GRIDNAME\":\"CUPFAG\"");
	add_fields(&buf, grid->settings.fields == SIM_FIELDS_HEADER);
	sim_buf_puts(&buf, grid_closes(grid));
	sim_body_own(body, &buf);
	return sim_answer(request, 200, "application/json", body);
}

static enum MHD_Result
answer_count(SimRequest *request, GridRequest *grid)
{
	SimBody *body = sim_body_create();
	SimBuf buf = {0};
	SimRows *rows = sim_rows_select(grid->filters, grid->nfilters, 0, 0);

	grid_opens(&buf, grid);
	add_metadata(&buf, grid, told_total(&request->strike, rows->total), 0,
				 rows->total > 0);
	sim_buf_puts(&buf, grid_closes(grid));
	sim_body_own(body, &buf);
	sim_rows_release(rows);
	return sim_answer(request, 200, "application/json", body);
}

/* Change the organization behind, or around, the reader's position. */
static void
mutate(const GridRequest *grid, const SimFault *fault, int64_t position)
{
	int64_t within = strcmp(fault->text, "any") == 0 ? -1 : position;

	if (grid->org == NULL || within == 0)
		return;
	if (fault->inserts > 0)
		sim_data_insert(grid->org, fault->inserts, true, within);
	if (fault->deletes > 0)
		sim_data_delete(grid->org, 0, fault->deletes, within, NULL);
	if (fault->updates > 0)
		sim_data_change(grid->org, 0, fault->updates, within, 0);
}

/* text is name=value of a setting, changed from this request on. */
static void
apply_setting(GridRequest *grid, const SimFault *fault)
{
	char pair[512];
	char *value;

	snprintf(pair, sizeof(pair), "%s", fault->text);
	value = strchr(pair, '=');
	if (value == NULL)
		return;
	*value++ = '\0';
	(void) sim_setting_apply(pair, value);
	pthread_rwlock_rdlock(&sim_settings_lock);
	grid->settings = sim_settings;
	pthread_rwlock_unlock(&sim_settings_lock);
}

static void
parse_position(GridRequest *grid, const SimJson *json)
{
	grid->offset = sim_json_int(json,
								grid->settings.row_offset ? "ROW_OFFSET" :
															"CURSOR_POSITION",
								0);
	grid->count = sim_json_int(json, "NUMBER_OF_ROWS_FIRST_RETURNED", 50);
	if (grid->offset < 0)
		grid->offset = 0;
	if (grid->count < 0)
		grid->count = 0;
	if (grid->count > grid->settings.page_cap)
		grid->count = grid->settings.page_cap;
}

enum MHD_Result
sim_grid_request(SimRequest *request)
{
	const SimJson *json = sim_json_get(request->json, "GRID");
	const char *type = sim_json_text(request->json, "REQUEST_TYPE");
	SimStrike *strike = &request->strike;
	GridRequest grid = {0};
	const char *error;
	int64_t position;
	enum MHD_Result result;

	pthread_rwlock_rdlock(&sim_settings_lock);
	grid.settings = sim_settings;
	pthread_rwlock_unlock(&sim_settings_lock);
	if (type && strcmp(type, "LIST.HEAD_ONLY.STORED") == 0)
		request->on = SIM_ON_HEAD;
	else if (type && strcmp(type, "LIST.COUNT.STORED") == 0)
		request->on = SIM_ON_COUNT;
	else
		request->on = SIM_ON_DATA;
	error = json ? parse_filters(&grid, request->json) :
				   "The request names no grid";
	parse_position(&grid, json);
	request->org[0] = request->filter[0] = '\0';
	describe_filters(request, &grid);
	grid.org = sim_org_find(request->org);
	position = reading_position(&grid);
	request->offset = position;
	if (sim_answer_fault(request, &result))
		return result;
	if (strike->on[SIM_FAULT_SET] && !request->set)
	{
		request->set = true;
		apply_setting(&grid, &strike->fault[SIM_FAULT_SET]);
	}
	request->offset = grid.offset;
	if (error)
		return sim_answer_alert(request, 200, error, "INVALID_REQUEST");
	if (request->on == SIM_ON_HEAD)
		return answer_head(request, &grid);
	if (strike->on[SIM_FAULT_IGNORE_FILTER])
		ignore_filters(&grid, &strike->fault[SIM_FAULT_IGNORE_FILTER]);
	if (request->on == SIM_ON_COUNT)
		return answer_count(request, &grid);
	if (strike->on[SIM_FAULT_MUTATE])
		mutate(&grid, &strike->fault[SIM_FAULT_MUTATE], position);
	if (strike->on[SIM_FAULT_SAME_PAGE])
		grid.offset = 0;
	if (strike->on[SIM_FAULT_SHORT_PAGES])
	{
		int64_t rows = strike->fault[SIM_FAULT_SHORT_PAGES].rows;

		if (rows < 0)
			rows = grid.count / 2;
		if (rows < grid.count)
			grid.count = rows;
	}
	return answer_data(request, &grid);
}
