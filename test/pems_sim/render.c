/*
 * render.c
 *	  Rows as JSON text, kept block by block.
 *
 * A block is rendered when a request first needs it (or by sim_warm), with
 * the settings of that moment; a change of settings starts a new generation
 * of texts.  A plan says what does not depend on the record: which columns in
 * which order, and the text before each value.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "sim.h"

typedef struct PlanCell
{
	int field; /* -1: a column that was added */
	int aliasnum;
	char alias[64];
	const char *before; /* text up to the value */
	size_t before_len;
} PlanCell;

typedef struct Plan
{
	uint32_t generation;
	bool named;
	bool oddities;
	int dates;
	int numbers;
	int bools;
	int ncells;
	PlanCell cells[SIM_NFIELDS + 1];
} Plan;

/* Plans are few and small: an old one may be in use, so none is freed. */
static _Atomic(Plan *) current_plan;

static void
plan_cell(Plan *plan, const SimSettings *settings, int field, const char *alias)
{
	PlanCell *cell = &plan->cells[plan->ncells];
	SimBuf before = {0};
	char *p;

	cell->field = field;
	cell->aliasnum = ++plan->ncells;
	snprintf(cell->alias, sizeof(cell->alias), "%s", alias);
	for (p = cell->alias; settings->upper && *p; p++)
		if (*p >= 'a' && *p <= 'z')
			*p -= 32;
	if (plan->named)
		sim_buf_printf(&before,
					   "{\"ALIAS_NAME\":\"%s\",\"VALUE\":", cell->alias);
	else
		sim_buf_printf(&before, "{\"n\":%d,\"value\":", cell->aliasnum);
	cell->before = before.data;
	cell->before_len = before.len;
}

void
sim_render_replan(void)
{
	Plan *old = atomic_load(&current_plan);
	Plan *plan = sim_alloc(sizeof(Plan));
	SimSettings settings;
	int i;

	pthread_rwlock_rdlock(&sim_settings_lock);
	settings = sim_settings;
	pthread_rwlock_unlock(&sim_settings_lock);
	plan->generation = old ? old->generation + 1 : 1;
	plan->named = settings.named;
	plan->oddities = settings.oddities;
	plan->dates = settings.dates;
	plan->numbers = settings.numbers;
	plan->bools = settings.bools;
	for (i = 0; i < SIM_NFIELDS; i++)
	{
		/* mapped columns are not all at the beginning: 73 is prime */
		int field = i * (settings.reorder ? 29 : 37) % SIM_NFIELDS;
		const char *alias = sim_fields[field].alias;

		if (strcasecmp(alias, settings.drop) == 0)
			continue;
		if (strcasecmp(alias, settings.rename_from) == 0)
			alias = settings.rename_to;
		plan_cell(plan, &settings, field, alias);
	}
	if (settings.add[0])
		plan_cell(plan, &settings, -1, settings.add);
	atomic_store(&current_plan, plan);
}

/* The field list: FIELD's array, or COLUMN's of the older form. */
void
sim_render_fields(SimBuf *out, bool old_form)
{
	Plan *plan = atomic_load(&current_plan);
	int i;

	sim_buf_puts(out, "[");
	for (i = 0; i < plan->ncells; i++)
		sim_buf_printf(out,
					   old_form ? "%s{\"INDEX\":%d,\"NAME\":\"%s\"}" :
								  "%s{\"aliasnum\":%d,\"name\":\"%s\","
								  "\"label\":\"%s\",\"visible\":\"+\"}",
					   i ? "," : "", plan->cells[i].aliasnum,
					   plan->cells[i].alias, plan->cells[i].alias);
	sim_buf_puts(out, "]");
}

static void
add_number(SimBuf *buf, const Plan *plan, int64_t value, unsigned dice)
{
	int style = plan->numbers;
	char text[48];

	if (plan->oddities && dice % 4 == 0)
		style = (int) (dice / 4 % 3);
	sim_format_number(text, value, style == SIM_NUMBER_THOUSANDS);
	if (style == SIM_NUMBER_PLAIN)
		sim_buf_puts(buf, text);
	else
		sim_buf_printf(buf, "\"%s\"", text);
}

static void
add_date(SimBuf *buf, const Plan *plan, int32_t value, unsigned dice)
{
	int style = plan->dates;
	char text[40];

	if (style == SIM_DATE_MIXED || (plan->oddities && dice % 4 == 1))
		style = (int) (dice / 4 % 4);
	sim_format_date(text, value, style);
	sim_buf_add(buf, "\"", 1);
	sim_buf_puts(buf, text);
	sim_buf_add(buf, "\"", 1);
}

static void
add_boolean(SimBuf *buf, const Plan *plan, int value, unsigned dice)
{
	static const char *const spelled[][2] = {{"\"Y\"", "\"N\""},
											 {"true", "false"},
											 {"\"1\"", "\"0\""},
											 {"\"-1\"", "\"0\""},
											 {"\"true\"", "\"false\""},
											 {"1", "0"}};
	int style = plan->bools;

	if (plan->oddities && dice % 4 == 2)
		style = (int) (dice / 4 % lengthof(spelled));
	sim_buf_puts(buf, spelled[style][value == SIM_TRUE ? 0 : 1]);
}

static void
add_value(SimBuf *buf, const Plan *plan, const SimRecord *record,
		  const char *org, int field, unsigned dice)
{
	const SimField *f = &sim_fields[field];
	bool odd = plan->oddities && record->salt % 8 == 0;
	char text[80];

	switch (f->kind)
	{
		case SIM_KIND_ID:
			sim_buf_json(buf, record->id, false);
			return;
		case SIM_KIND_ORG:
			sim_buf_json(buf, org, false);
			return;
		case SIM_KIND_TEXT:
			/* a blank is an empty string, null or blanks */
			if (odd && record->text[f->index][0] == '\0')
				sim_buf_puts(buf, dice % 2 ? "null" : "\"\"");
			else
				sim_buf_json(buf, record->text[f->index], odd);
			return;
		case SIM_KIND_MODIFIED:
			sim_format_time(text, record->modified);
			sim_buf_json(buf, text, false);
			return;
		case SIM_KIND_NUMBER:
			if (record->bad == 2 && f->index == SIM_RATE)
				sim_buf_puts(buf, "\"12.5 per day\"");
			else if (record->number[f->index] == SIM_NO_NUMBER)
				sim_buf_puts(buf, odd ? "null" : "\"\"");
			else
				add_number(buf, plan, record->number[f->index], dice);
			return;
		case SIM_KIND_DATE:
			if (record->bad == 1 && f->index == SIM_FORECAST_START)
				sim_buf_puts(buf, "\"2025-02-31\"");
			else if (record->date[f->index] == SIM_NO_DATE)
				sim_buf_puts(buf, odd ? "null" : "\"\"");
			else
				add_date(buf, plan, record->date[f->index], dice);
			return;
		case SIM_KIND_BOOLEAN:
			if (record->boolean[f->index] == SIM_BLANK)
				sim_buf_puts(buf, odd ? "null" : "\"\"");
			else
				add_boolean(buf, plan, record->boolean[f->index], dice);
			return;
		case SIM_KIND_FILLER:
			sim_filler(record, f->index, text, sizeof(text));
			sim_buf_add(buf, "\"", 1);
			sim_buf_puts(buf, text);
			sim_buf_add(buf, "\"", 1);
			return;
	}
}

static void
render_row(SimBuf *buf, const Plan *plan, const SimRecord *record,
		   const char *org, int field, const char *raw, size_t raw_len)
{
	bool odd = plan->oddities && record->salt % 8 == 0;
	uint64_t random = record->salt;
	int i;

	sim_buf_reserve(buf, 4096);
	sim_buf_printf(buf,
				   odd ? "{\"extra\":{\"a\":[1,{\"b\":null}],\"D\":\"}\"},"
						 "\"id\":\"%u\",\"%s\":[" :
						 "{\"id\":\"%u\",\"%s\":[",
				   record->serial, plan->named ? "CELL" : "D");
	for (i = 0; i < plan->ncells; i++)
	{
		const PlanCell *cell = &plan->cells[i];

		if (i > 0)
			sim_buf_add(buf, ",", 1);
		sim_buf_add(buf, cell->before, cell->before_len);
		if (cell->field < 0)
			sim_buf_puts(buf, "\"new\"");
		else if (cell->field == field)
			sim_buf_add(buf, raw, raw_len);
		else
			add_value(buf, plan, record, org, cell->field,
					  (unsigned) (plan->oddities ? sim_random(&random) >> 40 :
												   0));
		if (odd && i % 16 == 0)
			sim_buf_puts(buf, ",\"type\":\"x\"");
		sim_buf_add(buf, "}", 1);
	}
	sim_buf_puts(buf, "]},");
}

void
sim_render_row(SimBuf *buf, const SimRecord *record, const char *org, int field,
			   const char *raw, size_t raw_len)
{
	render_row(buf, atomic_load(&current_plan), record, org, field, raw,
			   raw_len);
}

void
sim_text_release(SimRowText *text)
{
	if (text == NULL || atomic_fetch_sub(&text->refs, 1) > 1)
		return;
	free(text->offsets);
	free(text->data);
	free(text);
}

static SimRowText *
text_create(int maxrows)
{
	SimRowText *text = sim_alloc(sizeof(SimRowText));

	text->refs = 1;
	text->offsets = sim_alloc((maxrows + 1) * sizeof(uint32_t));
	return text;
}

static void
text_finish(SimRowText *text, SimBuf *buf)
{
	text->data = buf->data ? sim_realloc(buf->data, buf->len + 1) : NULL;
}

static void
text_row_ends(SimRowText *text, const SimBuf *buf)
{
	text->offsets[++text->nrows] = (uint32_t) buf->len;
}

static void
block_drop_text(SimBlock *block)
{
	sim_text_release(block->base);
	sim_text_release(block->patch);
	free(block->source);
	block->base = block->patch = NULL;
	block->source = NULL;
}

/* The sources are copied: a new generation replaces them at any moment. */
void
sim_block_text(SimBlock *block, const SimOrg *org, SimRowText **base,
			   SimRowText **patch, const uint32_t **source)
{
	Plan *plan = atomic_load(&current_plan);
	uint32_t *copy;

	pthread_mutex_lock(&block->lock);
	if (block->base == NULL || block->generation != plan->generation)
	{
		SimBuf buf = {0};
		int i;

		block_drop_text(block);
		block->base = text_create(block->nrows);
		for (i = 0; i < block->nrows; i++)
		{
			render_row(&buf, plan, &block->records[i], org->name, -1, NULL, 0);
			text_row_ends(block->base, &buf);
		}
		text_finish(block->base, &buf);
		block->generation = plan->generation;
	}
	*base = block->base;
	*patch = block->patch;
	atomic_fetch_add(&block->base->refs, 1);
	if (block->patch)
		atomic_fetch_add(&block->patch->refs, 1);
	*source = NULL;
	if (block->source)
	{
		copy = sim_alloc(block->nrows * sizeof(uint32_t));
		memcpy(copy, block->source, block->nrows * sizeof(uint32_t));
		*source = copy;
	}
	pthread_mutex_unlock(&block->lock);
}

/*
 * origin: for each row of `block` its row in `old`, or SIM_PATCHED for one to
 * be rendered.  Where most rows changed, the text is left for later.
 */
void
sim_block_inherit(SimBlock *block, SimBlock *old, const SimOrg *org,
				  const uint32_t *origin)
{
	Plan *plan = atomic_load(&current_plan);
	SimRowText *patch;
	SimBuf buf = {0};
	int patched = 0;
	int i;

	pthread_mutex_lock(&old->lock);
	for (i = 0; i < block->nrows; i++)
		if (origin[i] == SIM_PATCHED ||
			(old->source && old->source[origin[i]] & SIM_PATCHED))
			patched++;
	if (old->base == NULL || old->generation != plan->generation ||
		patched > block->nrows / 4)
	{
		pthread_mutex_unlock(&old->lock);
		return;
	}
	patch = text_create(patched);
	block->source = sim_alloc(block->nrows * sizeof(uint32_t));
	for (i = 0; i < block->nrows; i++)
	{
		uint32_t from = origin[i];

		if (from != SIM_PATCHED && old->source)
			from = old->source[from];
		if (origin[i] != SIM_PATCHED && !(from & SIM_PATCHED))
		{
			block->source[i] = from;
			continue;
		}
		block->source[i] = SIM_PATCHED | (uint32_t) patch->nrows;
		if (origin[i] == SIM_PATCHED)
			render_row(&buf, plan, &block->records[i], org->name, -1, NULL, 0);
		else
		{
			from &= ~SIM_PATCHED;
			sim_buf_add(&buf, old->patch->data + old->patch->offsets[from],
						old->patch->offsets[from + 1] -
							old->patch->offsets[from]);
		}
		text_row_ends(patch, &buf);
	}
	text_finish(patch, &buf);
	block->patch = patch;
	block->base = old->base;
	atomic_fetch_add(&block->base->refs, 1);
	block->generation = old->generation;
	pthread_mutex_unlock(&old->lock);
}

/* ---- rendering everything before the first request ---- */

typedef struct WarmJob
{
	SimListing *listing;
	const SimOrg *org;
	atomic_int next;
} WarmJob;

static void *
warm_blocks(void *arg)
{
	WarmJob *job = arg;
	int b;

	while ((b = atomic_fetch_add(&job->next, 1)) < job->listing->nblocks)
	{
		SimRowText *base;
		SimRowText *patch;
		const uint32_t *source;

		sim_block_text(job->listing->blocks[b], job->org, &base, &patch,
					   &source);
		sim_text_release(base);
		sim_text_release(patch);
		free((void *) source);
	}
	return NULL;
}

void
sim_warm(void)
{
	int i;

	for (i = 0; i < sim_data.norgs; i++)
	{
		WarmJob job = {0};
		pthread_t thread;

		job.org = sim_data.orgs[i];
		job.listing = sim_org_listing(sim_data.orgs[i]);
		if (job.listing->nblocks > 4 &&
			pthread_create(&thread, NULL, warm_blocks, &job) == 0)
		{
			warm_blocks(&job);
			pthread_join(thread, NULL);
		}
		else
			warm_blocks(&job);
		sim_listing_release(job.listing);
	}
}
