/*
 * faults.c
 *	  Which faults there are, and which of them strike a request.
 */
#include <stdlib.h>
#include <string.h>

#include "sim.h"

static const char *const kind_names[SIM_NFAULTS] =
	{"latency",   "status",        "cut",        "wrong_total",
	 "alert",     "html",          "garbage",    "truncate",
	 "empty",     "drip",          "hang",       "mutate",
	 "same_page", "short_pages",   "redirect",   "big_record",
	 "bad_utf8",  "nul",           "surrogates", "deep",
	 "endless",   "ignore_filter", "hidden",     "quota",
	 "unsorted",  "applied_cut",   "more",       "dup",
	 "close",     "reset",         "raw",        "set"};

static struct
{
	pthread_mutex_t lock;
	SimFault fault[SIM_MAX_FAULTS];
	int nfaults;
	int last_id;
} state = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int
kind_find(const char *name)
{
	int i;

	for (i = 0; name && i < SIM_NFAULTS; i++)
		if (strcmp(kind_names[i], name) == 0)
			return i;
	return -1;
}

static int
parse_on(const char *text)
{
	static const struct
	{
		const char *name;
		int on;
	} names[] = {{"data", SIM_ON_DATA},
				 {"head", SIM_ON_HEAD},
				 {"count", SIM_ON_COUNT},
				 {"get", SIM_ON_GET},
				 {"write", SIM_ON_WRITE},
				 {"grid", SIM_ON_GRID},
				 {"screen", SIM_ON_SCREEN},
				 {"all", SIM_ON_GRID | SIM_ON_SCREEN}};
	size_t i;

	for (i = 0; i < lengthof(names); i++)
		if (strcmp(names[i].name, text) == 0)
			return names[i].on;
	return 0;
}

static int64_t
number(SimArgument get, void *arg, const char *name, int64_t missing)
{
	const char *text = get(arg, name);

	return text && *text ? strtoll(text, NULL, 10) : missing;
}

/* NULL, or what is wrong with the arguments. */
const char *
sim_fault_add(SimArgument get, void *arg, int *id)
{
	SimFault fault = {0};
	int kind = kind_find(get(arg, "kind"));
	const char *on = get(arg, "on");
	const char *org = get(arg, "org");
	const char *text = get(arg, "text");
	const char *field = get(arg, "field");
	const char *error = NULL;

	if (kind < 0)
		return "unknown kind";
	fault.kind = (SimFaultKind) kind;
	fault.on = on                     ? parse_on(on) :
		kind == SIM_FAULT_APPLIED_CUT ? SIM_ON_WRITE :
										SIM_ON_GRID;
	if (fault.on == 0)
		return "unknown value of on";
	if (org)
		snprintf(fault.org, sizeof(fault.org), "%s", org);
	if (text)
		snprintf(fault.text, sizeof(fault.text), "%s", text);
	snprintf(fault.field, sizeof(fault.field), "%s",
			 field ? field : "description");
	fault.count = number(get, arg, "count", -1);
	fault.every = number(get, arg, "every", 0);
	fault.skip = number(get, arg, "skip", 0);
	fault.after = number(get, arg, "after", 0);
	fault.code = number(get, arg, "code", 503);
	fault.ms = number(get, arg, "ms", -1);
	fault.jitter = number(get, arg, "jitter", 0);
	fault.bytes = number(get, arg, "bytes", -1);
	fault.rows = number(get, arg, "rows", -1);
	fault.row = number(get, arg, "row", 0);
	fault.n = number(get, arg, "n", -1);
	fault.inserts = number(get, arg, "inserts", 3);
	fault.deletes = number(get, arg, "deletes", 2);
	fault.updates = number(get, arg, "updates", 0);
	fault.retry_after = number(get, arg, "retry_after", -1);
	fault.retry_after_date = number(get, arg, "retry_after_date", -1);
	if (fault.kind == SIM_FAULT_RAW && sim_field_find(fault.field) < 0)
		return "unknown field";
	pthread_mutex_lock(&state.lock);
	if (state.nfaults == SIM_MAX_FAULTS)
		error = "too many faults";
	else
	{
		fault.id = *id = ++state.last_id;
		state.fault[state.nfaults++] = fault;
	}
	pthread_mutex_unlock(&state.lock);
	return error;
}

/* A quota strikes only what exceeds n requests in a second, or in ms. */
static bool
quota_exceeded(SimFault *fault)
{
	double now = sim_now();

	if (now - fault->window_start >=
		(fault->ms > 0 ? (double) fault->ms / 1000 : 1))
	{
		fault->window_start = now;
		fault->window_used = 0;
	}
	return ++fault->window_used > (fault->n < 0 ? 10 : fault->n);
}

void
sim_faults_strike(SimStrike *strike, int on, const char *org, int64_t offset)
{
	int i;

	pthread_mutex_lock(&state.lock);
	for (i = 0; i < state.nfaults; i++)
	{
		SimFault *f = &state.fault[i];

		if (!(f->on & on) || offset < f->after ||
			(f->org[0] && strcmp(f->org, org) != 0))
			continue;
		f->seen++;
		if (f->count == 0 || f->seen <= f->skip ||
			(f->every > 1 && (f->seen - f->skip) % f->every != 0) ||
			strike->on[f->kind] ||
			(f->kind == SIM_FAULT_QUOTA && !quota_exceeded(f)))
			continue;
		if (f->count > 0)
			f->count--;
		f->fired++;
		strike->on[f->kind] = true;
		strike->fault[f->kind] = *f;
	}
	pthread_mutex_unlock(&state.lock);
}

/* NULL or 0 stands for any; gives how many there were. */
int
sim_faults_clear(const char *kind, const char *org, int id)
{
	int kept = 0;
	int cleared;
	int i;

	pthread_mutex_lock(&state.lock);
	for (i = 0; i < state.nfaults; i++)
	{
		SimFault *f = &state.fault[i];

		if ((kind && strcmp(kind, kind_names[f->kind]) != 0) ||
			(org && strcmp(org, f->org) != 0) || (id && id != f->id))
			state.fault[kept++] = *f;
	}
	cleared = state.nfaults - kept;
	state.nfaults = kept;
	pthread_mutex_unlock(&state.lock);
	return cleared;
}

void
sim_faults_json(SimBuf *out)
{
	int i;

	sim_buf_puts(out, "[");
	pthread_mutex_lock(&state.lock);
	for (i = 0; i < state.nfaults; i++)
	{
		SimFault *f = &state.fault[i];

		sim_buf_printf(out,
					   "%s{\"id\":%d,\"kind\":\"%s\",\"org\":", i ? "," : "",
					   f->id, kind_names[f->kind]);
		sim_buf_json(out, f->org, false);
		sim_buf_printf(out, ",\"count\":%lld,\"seen\":%lld,\"fired\":%lld}",
					   (long long) f->count, (long long) f->seen,
					   (long long) f->fired);
	}
	pthread_mutex_unlock(&state.lock);
	sim_buf_puts(out, "]\n");
}
