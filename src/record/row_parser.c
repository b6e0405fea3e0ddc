/*
 * row_parser.c
 *	  One row of a grid, from contiguous bytes to a record.
 *
 * A row is read in one pass.  Its cells are recognized by comparing their
 * first bytes, up to the value, with those of the same cell of the rows
 * before (see PfaRowPrefix); the value's end is found sixteen bytes at a
 * time.  What does not match (another order of members, a cell left out) is
 * read member by member, and becomes the new expectation.  Nothing is copied
 * and nothing but the mapped fields is looked at further.
 */
#include "record/row_parser.h"

#include "record/json_scan.h"
#include "record/json_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How many cells left out of a row in a run still leave it on the fast path. */
#define PFA_ROW_SKIPPED_CELLS 8

/*
 * Steps return NULL when they cannot go on; row->error tells why, or is NULL
 * where the bytes ended.
 */
static const char *
fail(PfaRowParser *row, const char *at, const char *error)
{
	row->error = error;
	row->error_at = at;
	return NULL;
}

bool
pfa_row_parser_init(PfaRowParser *row, const PfaMapping *mapping,
					const char *organization, const PfaGridLayout *layout,
					const PfaGridLimits *limits, PfaBatch *batch)
{
	memset(row, 0, sizeof(*row));
	row->mapping = mapping;
	row->layout = layout;
	row->limits = limits;
	row->batch = batch;
	row->ascending = true;
	row->max_num = -1;
	row->generation = layout->generation - 1;	/* not read yet */
	row->stack_size = limits->max_depth < 1 ? 1 : limits->max_depth;
	row->cells = calloc((size_t) mapping->nfields + 1, sizeof(PfaCell));
	row->stack = malloc((size_t) row->stack_size);
	if (organization != NULL)
		row->organization = strdup(organization);
	row->aliases = pfa_grid_layout_create();
	return row->cells != NULL && row->stack != NULL &&
		row->aliases != NULL &&
		(organization == NULL || row->organization != NULL);
}

void
pfa_row_parser_free(PfaRowParser *row)
{
	free(row->organization);
	pfa_grid_layout_free(row->aliases);
	free(row->field_of);
	free(row->cells);
	free(row->prefixes);
	free(row->stack);
	free(row->scratch);
	memset(row, 0, sizeof(*row));
}

/* Turn the layout into a table by aliasnum, after it has changed. */
static bool
read_layout(PfaRowParser *row)
{
	const PfaGridLayout *layout = row->layout;
	int		   *table;
	int			i;

	table = malloc(((size_t) layout->max_num + 2) * sizeof(int));
	if (table == NULL)
		return false;
	for (i = 0; i <= layout->max_num; i++)
		table[i] = -1;
	row->id_known = false;
	for (i = 0; i < layout->nfields; i++)
	{
		const char *name = layout->fields[i].name;
		int			field = pfa_mapping_find(row->mapping, name,
											 strlen(name));

		table[layout->fields[i].num] = field;
		if (field >= 0 && field == row->mapping->id_field)
			row->id_known = true;
	}
	free(row->field_of);
	row->field_of = table;
	row->max_num = layout->max_num;
	row->generation = layout->generation;
	for (i = 0; i < row->nprefixes; i++)
		if (row->prefixes[i].positional)
			row->prefixes[i].len = 0;
	return true;
}

/* ---- steps through the text ---- */

/* Behind the string whose quote is before p. */
static const char *
skip_string(PfaRowParser *row, const char *p, const char *end, bool *escaped)
{
	int			i;

	for (;;)
	{
		p = json_string_stop(p, end);
		if (p == end)
			return NULL;
		if (*p == '"')
			return p + 1;
		*escaped = true;
		if (end - p < 2)
			return NULL;
		if (p[1] == '\0' || strchr("\"\\/bfnrtu", p[1]) == NULL)
			return fail(row, p + 1, "invalid escape");
		p += 2;
		if (p[-1] != 'u')
			continue;
		for (i = 0; i < 4; i++, p++)
		{
			if (p == end)
				return NULL;
			if (!((*p >= '0' && *p <= '9') ||
				  ((*p | 0x20) >= 'a' && (*p | 0x20) <= 'f')))
				return fail(row, p, "invalid escape");
		}
	}
}

/* Behind the number or word at p. */
static const char *
skip_scalar(PfaRowParser *row, const char *p, const char *end)
{
	const char *start = p;

	while (p < end && json_is_scalar(*p))
		p++;
	if (p == end)
		return NULL;
	if (p == start)
		return fail(row, p, "expected a value");
	/* most are short integers: not worth a walk through the grammar */
	if (p - start == 1 && *start >= '0' && *start <= '9')
		return p;
	if (!pfa_json_scalar_valid(start, (size_t) (p - start)))
		return fail(row, p, "invalid number or word");
	return p;
}

/* Behind the name at p and its colon, at the value. */
static const char *
skip_name(PfaRowParser *row, const char *p, const char *end,
		  const char **name, size_t *len)
{
	bool		escaped = false;

	p = json_skip_space(p, end);
	if (p == end)
		return NULL;
	if (*p != '"')
		return fail(row, p, "expected a name");
	*name = p + 1;
	p = skip_string(row, p + 1, end, &escaped);
	if (p == NULL)
		return NULL;
	*len = (size_t) (p - 1 - *name);
	p = json_skip_space(p, end);
	if (p == end)
		return NULL;
	if (*p != ':')
		return fail(row, p, "expected a colon");
	p = json_skip_space(p + 1, end);
	return p == end ? NULL : p;
}

/*
 * Behind the object or array at p, whatever is in it.  Its nesting is kept in
 * row->stack, from depth on.
 */
static const char *
skip_container(PfaRowParser *row, const char *p, const char *end, int depth)
{
	int			base = depth;
	bool		escaped = false;
	bool		first = true;
	const char *name;
	size_t		len;

	for (;;)
	{
		/* at a value; a container is entered */
		if (*p == '{' || *p == '[')
		{
			if (depth >= row->stack_size)
				return fail(row, p, "nested too deep");
			row->stack[depth++] = *p++;
			first = true;
		}
		else
		{
			p = *p == '"' ? skip_string(row, p + 1, end, &escaped) :
				skip_scalar(row, p, end);
			if (p == NULL)
				return NULL;
			first = false;
		}

		/* to the next value, out of the containers that end here */
		for (;;)
		{
			char		open = row->stack[depth - 1];

			p = json_skip_space(p, end);
			if (p == end)
				return NULL;
			if (*p == (open == '{' ? '}' : ']'))
			{
				p++;
				first = false;
				if (--depth == base)
					return p;
				continue;
			}
			if (!first)
			{
				if (*p != ',')
					return fail(row, p, "expected a comma or the end");
				p = json_skip_space(p + 1, end);
				if (p == end)
					return NULL;
			}
			if (open == '{')
			{
				p = skip_name(row, p, end, &name, &len);
				if (p == NULL)
					return NULL;
			}
			break;
		}
	}
}

/* Behind the value at p, which is described in *cell. */
static const char *
skip_value(PfaRowParser *row, const char *p, const char *end, int depth,
		   PfaCell *cell)
{
	const char *start = p;
	bool		escaped = false;

	if (*p == '"')
	{
		p = skip_string(row, p + 1, end, &escaped);
		if (p == NULL)
			return NULL;
		cell->text = start + 1;
		cell->len = (size_t) (p - start) - 2;
		cell->kind = escaped ? PFA_CELL_ESCAPED : PFA_CELL_STRING;
		return p;
	}
	cell->text = start;
	if (*p == '{' || *p == '[')
	{
		cell->kind = PFA_CELL_NESTED;
		p = skip_container(row, p, end, depth);
	}
	else
	{
		cell->kind = *p == 'n' ? PFA_CELL_NULL : PFA_CELL_SCALAR;
		p = skip_scalar(row, p, end);
	}
	if (p != NULL)
		cell->len = (size_t) (p - start);
	return p;
}

/* ---- cells ---- */

static bool
name_is(const char *name, size_t len, const char *lower)
{
	size_t		i;

	for (i = 0; i < len; i++)
	{
		char		c = name[i];

		if (c >= 'A' && c <= 'Z')
			c |= 0x20;
		if (lower[i] == '\0' || c != lower[i])
			return false;
	}
	return lower[len] == '\0';
}

/* The number in a cell, -1 if it is none; written as number or string. */
static int
cell_number(const PfaCell *cell)
{
	int			num = 0;
	size_t		i;

	if (cell->len == 0 || cell->len > 9 ||
		(cell->kind != PFA_CELL_STRING && cell->kind != PFA_CELL_SCALAR))
		return -1;
	for (i = 0; i < cell->len; i++)
	{
		if (cell->text[i] < '0' || cell->text[i] > '9')
			return -1;
		num = num * 10 + (cell->text[i] - '0');
	}
	return num;
}

static int
named_field(PfaRowParser *row, const PfaCell *alias)
{
	char		name[256];
	size_t		len;

	if (alias->kind == PFA_CELL_STRING)
		return pfa_mapping_find(row->mapping, alias->text, alias->len);
	if (alias->kind != PFA_CELL_ESCAPED || alias->len > sizeof(name))
		return -1;
	if (pfa_json_unescape(alias->text, alias->len, name, &len) !=
		PFA_JSON_TEXT_OK)
		return -1;
	return pfa_mapping_find(row->mapping, name, len);
}

/* The field a positional cell belongs to; -2 where the layout ends before. */
static int
numbered_field(PfaRowParser *row, const PfaCell *cell)
{
	int			num = cell_number(cell);

	if (num < 0)
		return -1;
	return num > row->max_num ? -2 : row->field_of[num];
}

static bool
is_named(const PfaCell *alias)
{
	return alias->kind == PFA_CELL_STRING || alias->kind == PFA_CELL_ESCAPED;
}

/* The field a cell belongs to, by its alias, or else by its number. */
static int
cell_field(PfaRowParser *row, const PfaCell *alias, const PfaCell *num)
{
	int			field;

	if (is_named(alias))
		return named_field(row, alias);
	if (num->kind == PFA_CELL_NULL)
		return -1;
	row->positional = true;
	field = numbered_field(row, num);
	if (field == -2)
		row->num_unknown = true;
	return field;
}

static inline void
set_cell(PfaRowParser *row, int field, const PfaCell *value)
{
	if (field >= 0)
	{
		row->cells[field] = *value;
		row->cells[field].row = row->row;
	}
}

/* Room for the prefix of cell i; NULL: not remembered. */
static PfaRowPrefix *
prefix_slot(PfaRowParser *row, int i)
{
	if (i >= row->nprefixes)
	{
		int			n = i < 64 ? 128 : 2 * i;
		PfaRowPrefix *grown;

		if (n > 1024)
			n = 1024;			/* 80 kB; wider grids have a slow tail */
		if (i >= n)
			return NULL;
		grown = realloc(row->prefixes, (size_t) n * sizeof(PfaRowPrefix));
		if (grown == NULL)
			return NULL;
		memset(grown + row->nprefixes, 0,
			   (size_t) (n - row->nprefixes) * sizeof(PfaRowPrefix));
		row->prefixes = grown;
		row->nprefixes = n;
	}
	return &row->prefixes[i];
}

/* Keep the aliases of named cells: they are all the field list there is. */
static void
note_alias(PfaRowParser *row, const PfaCell *alias)
{
	const PfaGridLayout *known = row->aliases;
	int			i;

	if (alias->kind != PFA_CELL_STRING || known->nfields >= PFA_ROW_MAX_ALIASES)
		return;
	for (i = 0; i < known->nfields; i++)
	{
		if (strlen(known->fields[i].name) == alias->len &&
			memcmp(known->fields[i].name, alias->text, alias->len) == 0)
			return;
	}
	/* one that finds no memory is only not told of */
	(void) pfa_grid_layout_add(row->aliases, i, alias->text, alias->len);
}

/* False where the prefix was known already. */
static bool
learn_prefix(PfaRowParser *row, int i, const char *start, const char *value,
			 int field, bool positional)
{
	PfaRowPrefix *prefix = prefix_slot(row, i);
	size_t		len = (size_t) (value - start);

	if (prefix == NULL)
		return true;
	if (prefix->len == len && memcmp(prefix->text, start, len) == 0)
		return false;
	prefix->len = 0;
	if (len > PFA_ROW_PREFIX_SIZE || field < -1)
		return true;
	prefix->len = (uint8_t) len;
	prefix->field = field;
	prefix->positional = positional;
	memcpy(prefix->text, start, len);
	return true;
}

/* Read the i-th cell, whose '{' is at p, member by member. */
static const char *
read_cell(PfaRowParser *row, const char *p, const char *end, int depth, int i)
{
	const char *start = p;
	const char *value_at = NULL;
	const char *at;
	const char *name;
	size_t		len;
	bool		positional;
	PfaCell		member;
	PfaCell		value;
	PfaCell		alias;
	PfaCell		num;
	int			field;

	value.kind = alias.kind = num.kind = PFA_CELL_NULL;
	value.text = alias.text = num.text = "";
	value.len = alias.len = num.len = 0;
	p = json_skip_space(p + 1, end);
	if (p == end)
		return NULL;
	if (*p == '}')
		return p + 1;
	for (;;)
	{
		p = skip_name(row, p, end, &name, &len);
		if (p == NULL)
			return NULL;
		at = p;
		value_at = NULL;
		p = skip_value(row, p, end, depth + 1, &member);
		if (p == NULL)
			return NULL;
		if (name_is(name, len, "value"))
		{
			value = member;
			value_at = at;
		}
		else if (name_is(name, len, "alias_name") ||
				 name_is(name, len, "name") || name_is(name, len, "t"))
			alias = member;
		else if (name_is(name, len, "n") || name_is(name, len, "aliasnum"))
			num = member;
		p = json_skip_space(p, end);
		if (p == end)
			return NULL;
		if (*p == '}')
			break;
		if (*p != ',')
			return fail(row, p, "expected a comma or the end");
		p++;
	}

	field = cell_field(row, &alias, &num);
	positional = !is_named(&alias) && num.kind != PFA_CELL_NULL;
	set_cell(row, field, &value);

	/* value_at is set only where the value came last */
	if (value_at == NULL ||
		learn_prefix(row, i, start, value_at, field, positional))
		note_alias(row, &alias);
	return p + 1;
}

/*
 * Read a cell by what the same cell of another row began with.  NULL: read it
 * the slow way; that may be for any reason.
 */
static inline const char *
expect_cell(PfaRowParser *row, const char *p, const char *end,
			const PfaRowPrefix *prefix)
{
	PfaCell    *cell;
	const char *start;
	const char *stop;

	/* two bytes more: the value's first one, and what ends the cell */
	if (prefix->len == 0 || end - p < prefix->len + 2 ||
		memcmp(p, prefix->text, prefix->len) != 0)
		return NULL;
	start = p + prefix->len;
	if (*start != '"')
		return NULL;
	start++;
	stop = json_string_stop(start, end);
	if (end - stop < 2 || stop[0] != '"' || stop[1] != '}')
		return NULL;
	if (prefix->field >= 0)
	{
		cell = &row->cells[prefix->field];
		cell->row = row->row;
		cell->text = start;
		cell->len = (size_t) (stop - start);
		cell->kind = PFA_CELL_STRING;
	}
	if (prefix->positional)
		row->positional = true;
	return stop + 2;
}

/*
 * The cell at p; *i is the place where its prefix is expected, and is moved
 * on.  Grids that leave empty cells out skip some of the places.
 */
static inline const char *
next_cell(PfaRowParser *row, const char *p, const char *end, int depth,
		  int *i)
{
	const char *next;
	PfaCell		other;
	int			k;

	for (k = *i; k < row->nprefixes && k < *i + PFA_ROW_SKIPPED_CELLS; k++)
	{
		next = expect_cell(row, p, end, &row->prefixes[k]);
		if (next != NULL)
		{
			*i = k + 1;
			return next;
		}
	}
	k = (*i)++;
	if (*p != '{')
		return skip_value(row, p, end, depth, &other);
	if (depth >= row->stack_size)
		return fail(row, p, "nested too deep");
	return read_cell(row, p, end, depth, k);
}

/* The array of cells whose '[' is at p. */
static const char *
read_cells(PfaRowParser *row, const char *p, const char *end, int depth)
{
	int			ncells = 0;
	int			place = 0;

	p = json_skip_space(p + 1, end);
	if (p == end)
		return NULL;
	if (*p == ']')
		return p + 1;
	for (;;)
	{
		p = next_cell(row, p, end, depth, &place);
		if (p == NULL)
			return NULL;
		row->ncells = ++ncells;
		if (ncells > row->limits->max_fields)
			return fail(row, p, "too many cells in a row");
		if (end - p < 2)
			return NULL;
		if (p[0] == ',' && p[1] == '{')
		{
			p++;
			continue;
		}
		p = json_skip_space(p, end);
		if (p == end)
			return NULL;
		if (*p == ']')
			return p + 1;
		if (*p != ',')
			return fail(row, p, "expected a comma or the end");
		p = json_skip_space(p + 1, end);
		if (p == end)
			return NULL;
	}
}

static const char *
read_row(PfaRowParser *row, const char *p, const char *end, int depth)
{
	const char *name;
	size_t		len;
	PfaCell		other;

	p = json_skip_space(p + 1, end);
	if (p == end)
		return NULL;
	if (*p == '}')
		return p + 1;
	for (;;)
	{
		p = skip_name(row, p, end, &name, &len);
		if (p == NULL)
			return NULL;
		if ((*p == '[' || *p == '{') &&
			(name_is(name, len, "d") || name_is(name, len, "cell")))
		{
			if (depth + 1 > row->stack_size)
				return fail(row, p, "nested too deep");
			p = *p == '[' ? read_cells(row, p, end, depth + 1) :
				read_cell(row, p, end, depth, 0);
		}
		else
			p = skip_value(row, p, end, depth, &other);
		if (p == NULL)
			return NULL;
		p = json_skip_space(p, end);
		if (p == end)
			return NULL;
		if (*p == '}')
			return p + 1;
		if (*p != ',')
			return fail(row, p, "expected a comma or the end");
		p++;
	}
}

PfaRowStatus
pfa_row_parse(PfaRowParser *row, const char *start, const char *end,
			  int depth, const char **next)
{
	const char *p;

	if (row->generation != row->layout->generation && !read_layout(row))
		return PFA_ROW_OUT_OF_MEMORY;
	row->row++;
	row->ncells = 0;
	row->positional = false;
	row->num_unknown = false;
	row->error = NULL;
	p = read_row(row, start, end, depth);
	if (p == NULL)
		return row->error != NULL ? PFA_ROW_MALFORMED : PFA_ROW_SHORT;
	*next = p;
	return PFA_ROW_COMPLETE;
}

/* ---- from cells to a record ---- */

/*
 * The text of a field in this row, blank where it is null or missing.  False
 * with a reason where it has none.
 */
static bool
cell_text(PfaRowParser *row, int field, const char **text, size_t *len,
		  const char **reason)
{
	const PfaCell *cell;
	PfaJsonText fault;

	*text = "";
	*len = 0;
	if (field < 0)
		return true;			/* a mapping without an identity */
	cell = &row->cells[field];
	if (cell->row != row->row || cell->kind == PFA_CELL_NULL)
		return true;
	*text = cell->text;
	*len = cell->len;
	if (cell->kind == PFA_CELL_NESTED)
	{
		*reason = "is not a single value";
		return false;
	}
	if (cell->kind == PFA_CELL_ESCAPED)
	{
		if (cell->len > row->scratch_size)
		{
			free(row->scratch);
			row->scratch_size = cell->len + 1024;
			row->scratch = malloc(row->scratch_size);
			if (row->scratch == NULL)
			{
				row->scratch_size = 0;
				*reason = NULL;
				return false;
			}
		}
		fault = pfa_json_unescape(cell->text, cell->len, row->scratch, len);
		*text = row->scratch;
		if (fault != PFA_JSON_TEXT_OK)
		{
			*reason = fault == PFA_JSON_TEXT_NUL ?
				"contains a NUL character" :
				"contains half of a surrogate pair";
			return false;
		}
	}
	if (!pfa_json_utf8_valid(*text, *len))
	{
		*reason = "is not valid UTF-8";
		return false;
	}
	return true;
}

static PfaRowStatus
reject(PfaRowParser *row, const PfaValue *id, const char *reason)
{
	if (!pfa_batch_reject(row->batch, id->ptr, id->len, reason))
		return PFA_ROW_OUT_OF_MEMORY;
	if (row->nrows <= row->mark)
		row->marked_rejects++;
	return PFA_ROW_COMPLETE;
}

/* field "pfs_f_rental": "abc" is not a number */
static PfaRowStatus
reject_value(PfaRowParser *row, const PfaValue *id, int field,
			 const char *text, size_t len, const char *reason)
{
	char		message[512];
	char		value[64];
	size_t		cut = pfa_json_utf8_cut(text, len, 60);

	if (reason == NULL)
		return PFA_ROW_OUT_OF_MEMORY;
	pfa_json_printable(value, sizeof(value), text, cut);
	snprintf(message, sizeof(message), "field \"%.200s\": \"%s\"%s %s",
			 row->mapping->fields[field].alias, value,
			 cut < len ? "..." : "", reason);
	return reject(row, id, message);
}

/* Decode a field; false after the row was rejected (or *status tells). */
static bool
decode_field(PfaRowParser *row, int field, const PfaValue *id,
			 PfaValue *value, PfaRowStatus *status)
{
	const char *reason = NULL;
	const char *text;
	size_t		len;

	if (cell_text(row, field, &text, &len, &reason) &&
		pfa_field_decode(&row->mapping->fields[field], text, len, row->batch,
						 value, &reason))
		return true;
	*status = reject_value(row, id, field, text, len, reason);
	return false;
}

/*
 * Ids must not descend.  Equal ones follow each other where organizations
 * whose codes begin alike have records of the same name.
 */
static void
note_id(PfaRowParser *row, const char *id, size_t len)
{
	size_t		common = len < row->last_id_len ? len : row->last_id_len;
	int			order;

	if (row->has_id)
	{
		order = memcmp(row->last_id, id, common);
		if (order == 0 && row->last_id_len == len)
			return;
		if (order > 0 || (order == 0 && row->last_id_len > len))
			row->ascending = false;
	}
	else
	{
		memcpy(row->first_id, id, len);
		row->first_id[len] = '\0';
		row->has_id = true;
	}
	row->last_id_is_ours = false;
	memcpy(row->last_id, id, len);
	row->last_id[len] = '\0';
	row->last_id_len = len;
}

/*
 * The text that identifies the row, as an arena value; isnull where there is
 * none, with the reason in that case.
 */
static PfaRowStatus
row_id(PfaRowParser *row, PfaValue *id, const char **reason)
{
	const char *text;
	size_t		len;

	memset(id, 0, sizeof(*id));
	id->isnull = true;
	id->ptr = "";
	*reason = NULL;
	if (!cell_text(row, row->mapping->id_field, &text, &len, reason))
		return *reason == NULL ? PFA_ROW_OUT_OF_MEMORY : PFA_ROW_COMPLETE;
	/* whatever kind the mapping says, an identity is a text */
	if (!pfa_value_decode(PFA_KIND_TEXT, text, len, row->batch, id, reason))
	{
		id->isnull = true;
		id->ptr = "";
		id->len = 0;
		return *reason == NULL ? PFA_ROW_OUT_OF_MEMORY : PFA_ROW_COMPLETE;
	}
	if (id->isnull || id->len == 0)
	{
		id->isnull = true;
		id->ptr = "";
		id->len = 0;
		*reason = "is missing";
	}
	else if (id->len > PFA_ROW_MAX_ID)
	{
		id->isnull = true;
		id->len = (uint32_t) pfa_json_utf8_cut(id->ptr, id->len,
											   PFA_ROW_MAX_ID);
		*reason = "is longer than 255 bytes";
	}
	else
		note_id(row, id->ptr, id->len);
	return PFA_ROW_COMPLETE;
}

/* The row is our organization's, in which an id names one record. */
static void
note_ours(PfaRowParser *row, const PfaValue *id)
{
	if (id->isnull)
		return;
	if (row->last_id_is_ours)
		row->ascending = false;
	row->last_id_is_ours = true;
}

/* Is the row's organization known to be another one? */
static bool
is_foreign(const PfaRowParser *row, const PfaValue *organization)
{
	size_t		len;

	if (row->organization == NULL)
		return false;
	len = strlen(row->organization);
	return organization->len != len || organization->ptr == NULL ||
		memcmp(organization->ptr, row->organization, len) != 0;
}

static bool
begins_like_ours(const PfaRowParser *row, const PfaValue *organization)
{
	size_t		len = strlen(row->organization);

	return organization->len >= len &&
		memcmp(organization->ptr, row->organization, len) == 0;
}

static PfaRowStatus
add_record(PfaRowParser *row, const PfaValue *id,
		   const PfaValue *organization)
{
	const PfaMapping *mapping = row->mapping;
	PfaRowStatus status = PFA_ROW_COMPLETE;
	PfaRecord  *record;
	PfaValue   *values;
	int			i;

	values = pfa_batch_alloc(row->batch,
							 (size_t) mapping->nfields * sizeof(PfaValue));
	if (values == NULL)
		return PFA_ROW_OUT_OF_MEMORY;
	for (i = 0; i < mapping->nfields; i++)
	{
		if (i == mapping->organization_field)
			values[i] = *organization;
		else if (i == mapping->id_field &&
				 mapping->fields[i].kind == PFA_KIND_TEXT)
			values[i] = *id;
		else if (!decode_field(row, i, id, &values[i], &status))
			return status;
	}
	record = pfa_batch_add(row->batch);
	if (record == NULL)
		return PFA_ROW_OUT_OF_MEMORY;
	record->id = id->ptr;
	record->id_len = id->len;
	record->values = values;
	record->hash = pfa_record_hash(mapping, values);
	if (row->nrows <= row->mark)
		row->marked_records++;
	return PFA_ROW_COMPLETE;
}

/*
 * The layout must name the identity, and must not end before the row does.
 * A field list that came with the rows is believed though: asking again could
 * only bring the same one.
 */
static bool
layout_fits(const PfaRowParser *row)
{
	if (!row->positional)
		return true;
	return row->id_known && (!row->num_unknown || row->layout_is_fresh);
}

PfaRowStatus
pfa_row_commit(PfaRowParser *row)
{
	int			organization_field = row->mapping->organization_field;
	PfaRowStatus status;
	PfaValue	organization;
	PfaValue	id;
	const char *reason;
	char		message[512];

	if (!layout_fits(row))
		return PFA_ROW_NEEDS_LAYOUT;
	row->used_layout |= row->positional;
	row->nrows++;
	if (row->nrows > 1 && row->ncells != row->last_ncells)
		row->uneven = true;
	row->last_ncells = row->ncells;
	status = row_id(row, &id, &reason);
	if (status != PFA_ROW_COMPLETE)
		return status;

	/* another organization's row is none of our rejects */
	memset(&organization, 0, sizeof(organization));
	organization.isnull = true;
	if (organization_field >= 0)
	{
		if (!decode_field(row, organization_field, &id, &organization,
						  &status))
		{
			note_ours(row, &id);
			return status;
		}

		/*
		 * A row that does not tell whose it is must not pass silently: left
		 * out, it would look as if it had vanished.
		 */
		if (organization.isnull && reason == NULL &&
			row->organization != NULL)
		{
			note_ours(row, &id);
			snprintf(message, sizeof(message), "field \"%.200s\" is missing",
					 row->mapping->fields[organization_field].alias);
			return reject(row, &id, message);
		}
		if (!organization.isnull && is_foreign(row, &organization))
		{
			/*
			 * PEMS was asked for codes that begin with ours.  Another one
			 * may be a value that stood elsewhere when the list was read.
			 */
			if (row->positional && !row->layout_is_fresh &&
				!begins_like_ours(row, &organization))
				return PFA_ROW_NEEDS_LAYOUT;
			row->nforeign++;
			return PFA_ROW_COMPLETE;
		}
	}
	note_ours(row, &id);
	if (reason != NULL)
	{
		snprintf(message, sizeof(message), "field \"%.200s\" %s",
				 row->mapping->id_field < 0 ? "pfaId" :
				 row->mapping->fields[row->mapping->id_field].alias, reason);
		return reject(row, &id, message);
	}
	return add_record(row, &id, &organization);
}

PfaRowStatus
pfa_row_begin_oversized(PfaRowParser *row)
{
	if (row->generation != row->layout->generation && !read_layout(row))
		return PFA_ROW_OUT_OF_MEMORY;
	row->row++;
	row->positional = false;
	row->num_unknown = false;
	return PFA_ROW_COMPLETE;
}

void
pfa_row_oversized_cell(PfaRowParser *row, const PfaCell *alias,
					   const PfaCell *num, const PfaCell *value)
{
	PfaCell		kept = *value;
	int			field;
	int			slot;

	field = cell_field(row, alias, num);
	if (field < 0)
		return;
	if (field == row->mapping->id_field)
		slot = 0;
	else if (field == row->mapping->organization_field)
		slot = 1;
	else
		return;
	if (kept.len > sizeof(row->kept[slot]))
		kept.len = sizeof(row->kept[slot]);
	memcpy(row->kept[slot], value->text, kept.len);
	kept.text = row->kept[slot];
	set_cell(row, field, &kept);
}

PfaRowStatus
pfa_row_reject_oversized(PfaRowParser *row)
{
	int			organization_field = row->mapping->organization_field;
	PfaRowStatus status;
	PfaValue	organization;
	PfaValue	id;
	const char *reason;
	const char *text;
	size_t		len;
	char		message[128];

	if (!layout_fits(row))
		return PFA_ROW_NEEDS_LAYOUT;
	row->used_layout |= row->positional;
	row->nrows++;
	status = row_id(row, &id, &reason);
	if (status != PFA_ROW_COMPLETE)
		return status;
	if (organization_field >= 0 &&
		cell_text(row, organization_field, &text, &len, &reason) && len > 0 &&
		pfa_field_decode(&row->mapping->fields[organization_field], text, len,
						 row->batch, &organization, &reason) &&
		!organization.isnull && is_foreign(row, &organization))
	{
		row->nforeign++;
		return PFA_ROW_COMPLETE;
	}
	note_ours(row, &id);
	snprintf(message, sizeof(message), "record is larger than %zu bytes",
			 row->limits->max_record_bytes);
	return reject(row, &id, message);
}
