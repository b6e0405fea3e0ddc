/*
 * settings.c
 *	  What can be switched while the simulator runs, by name.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "sim.h"

SimSettings sim_settings = {.more = 1,
							.delta = 1,
							.keyset = 1,
							.page_cap = 10000};
pthread_rwlock_t sim_settings_lock = PTHREAD_RWLOCK_INITIALIZER;

typedef struct Setting
{
	const char *name;
	const char *choices; /* separated by |, "#": a number, "$": text */
	void *where;
	size_t size; /* of a text */
	bool rerender;
} Setting;

#define TEXT(name) sim_settings.name, sizeof(sim_settings.name)

static const Setting settings[] =
	{{"shape", "positional|named", &sim_settings.named, 0, true},
	 {"alias_case", "lower|upper", &sim_settings.upper, 0, true},
	 {"oddities", "off|on", &sim_settings.oddities, 0, true},
	 {"dates", "iso|isotime|dmy|mdy|mixed", &sim_settings.dates, 0, true},
	 {"numbers", "plain|thousands|string", &sim_settings.numbers, 0, true},
	 {"bools", "yn|truefalse|10|minus1", &sim_settings.bools, 0, true},
	 {"fields", "inline|head|header", &sim_settings.fields, 0, false},
	 {"grid", "grid|grid1|top", &sim_settings.wrapper, 0, false},
	 {"single", "array|object", &sim_settings.single_object, 0, false},
	 {"empty", "array|null|string|absent", &sim_settings.empty, 0, false},
	 {"total", "both|records|totalrows|total-count|rowcount|string|none",
	  &sim_settings.total, 0, false},
	 {"more", "off|on", &sim_settings.more, 0, false},
	 {"gzip", "off|on", &sim_settings.gzip, 0, false},
	 {"cursor", "cursor|offset", &sim_settings.row_offset, 0, false},
	 {"delta", "off|on", &sim_settings.delta, 0, false},
	 {"keyset", "off|on", &sim_settings.keyset, 0, false},
	 {"hide", "#", &sim_settings.hide, 0, false},
	 {"reorder", "off|on", &sim_settings.reorder, 0, true},
	 {"page_cap", "#", &sim_settings.page_cap, 0, false},
	 {"user", "$", TEXT(user), false},
	 {"password", "$", TEXT(password), false},
	 {"api_key", "$", TEXT(api_key), false},
	 {"base", "$", TEXT(base), false},
	 {"drop", "$", TEXT(drop), true},
	 {"rename_from", "$", TEXT(rename_from), true},
	 {"rename_to", "$", TEXT(rename_to), true},
	 {"add", "$", TEXT(add), true}};

/* The position of a word in a list of choices, -1 where it is none. */
static int
choice_find(const char *choices, const char *word)
{
	int i = 0;

	for (;;)
	{
		size_t len = strcspn(choices, "|");

		if (strlen(word) == len && strncasecmp(choices, word, len) == 0)
			return i;
		if (choices[len] == '\0')
			return -1;
		choices += len + 1;
		i++;
	}
}

static const char *
setting_store(const Setting *setting, const char *value)
{
	int n;

	if (*setting->choices == '$')
	{
		if (strlen(value) >= setting->size)
			return "value too long";
		strcpy(setting->where, value);
		return NULL;
	}
	n = *setting->choices == '#' ? atoi(value) :
								   choice_find(setting->choices, value);
	if (n < 0)
		return "unknown value";
	*(int *) setting->where = n;
	return NULL;
}

const char *
sim_setting_apply(const char *name, const char *value)
{
	size_t i;
	const char *error;

	for (i = 0; i < lengthof(settings); i++)
	{
		if (strcmp(settings[i].name, name) != 0)
			continue;
		pthread_rwlock_wrlock(&sim_settings_lock);
		error = setting_store(&settings[i], value);
		pthread_rwlock_unlock(&sim_settings_lock);
		if (error == NULL && settings[i].rerender)
			sim_render_replan();
		return error;
	}
	return "unknown setting";
}

void
sim_settings_json(SimBuf *out)
{
	size_t i;

	pthread_rwlock_rdlock(&sim_settings_lock);
	for (i = 0; i < lengthof(settings); i++)
	{
		const Setting *s = &settings[i];

		/* credentials are not told */
		if (strcmp(s->name, "password") == 0 || strcmp(s->name, "api_key") == 0)
			continue;
		sim_buf_printf(out, "%s\"%s\":", i ? "," : "{", s->name);
		if (*s->choices == '$')
			sim_buf_json(out, s->where, false);
		else if (*s->choices == '#')
			sim_buf_printf(out, "%d", *(int *) s->where);
		else
		{
			const char *word = s->choices;
			int n;

			for (n = *(int *) s->where; n > 0; n--)
				word = strchr(word, '|') + 1;
			sim_buf_printf(out, "\"%.*s\"", (int) strcspn(word, "|"), word);
		}
	}
	sim_buf_puts(out, "}\n");
	pthread_rwlock_unlock(&sim_settings_lock);
}
