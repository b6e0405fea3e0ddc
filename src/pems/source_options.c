/*
 * source_options.c
 *	  Options of the wrapper pfa_pems: names, kinds, limits, defaults.
 *
 * One table says everything about an option, so that what CREATE SERVER takes,
 * what its error message lists and what a sync reads cannot differ.
 *
 * The validator sees the whole new list of options, not the change, and not
 * the object.  So it cannot tell an option that a superuser set earlier from
 * one being set now, and refuses both: a server or mapping that has options
 * for superusers is altered by superusers only, save for dropping these.  This
 * also keeps a server's owner from re-aiming a server whose certificate checks
 * a superuser had relaxed.
 */
#include "postgres.h"

#include <ctype.h>
#include <limits.h>
#include <math.h>

#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "pems/address.h"
#include "pems/source_options.h"

typedef enum OptionKind
{
	OPTION_TEXT,  /* name or code, without control characters */
	OPTION_URL,   /* base_url */
	OPTION_PROXY, /* URL, http to any host */
	OPTION_FILE,  /* absolute path */
	OPTION_INTEGER,
	OPTION_DURATION, /* seconds, or with a unit; kept in ms */
	OPTION_BOOLEAN,
	OPTION_PAGINATION,
	OPTION_USERNAME,
	OPTION_PASSWORD,
	OPTION_API_KEY
} OptionKind;

typedef enum OptionFlags
{
	OPTION_SUPERUSER = 1,
	OPTION_SECRET = 2
} OptionFlags;

typedef struct OptionDef
{
	const char *name;
	Oid catalog;
	OptionKind kind;
	int flags;
	int offset; /* in PfaSource; -1: no field */
	int min;
	int max;
} OptionDef;

#define SERVER(name, kind, flags) \
	{ \
#name, ForeignServerRelationId, kind, flags, \
			offsetof(PfaSource, name), 0, 0 \
	}
#define SERVER_RANGE(name, kind, field, min, max) \
	{ \
#name, ForeignServerRelationId, kind, 0, offsetof(PfaSource, field), \
			min, max \
	}
#define MAPPING(name, kind, flags) \
	{ \
#name, UserMappingRelationId, kind, flags, offsetof(PfaSource, name), \
			0, 0 \
	}
#define MAPPING_FILE(name) \
	{ \
#name, UserMappingRelationId, OPTION_FILE, OPTION_SUPERUSER, -1, 0, 0 \
	}

/* In the order in which messages list them. */
static const OptionDef option_table[] =
	{SERVER(base_url, OPTION_URL, 0),
	 SERVER(tenant, OPTION_TEXT, 0),
	 SERVER(grid_name, OPTION_TEXT, 0),
	 SERVER(grid_id, OPTION_TEXT, 0),
	 SERVER(screen_name, OPTION_TEXT, 0),
	 SERVER_RANGE(page_size, OPTION_INTEGER, page_size, 1, 10000),
	 SERVER_RANGE(requests_in_flight, OPTION_INTEGER, requests_in_flight, 1,
				  16),
	 SERVER_RANGE(writes_per_second, OPTION_INTEGER, writes_per_second, 1,
				  1000),
	 SERVER_RANGE(connect_timeout, OPTION_DURATION, connect_timeout_ms, 100,
				  5 * 60 * 1000),
	 SERVER_RANGE(timeout, OPTION_DURATION, timeout_ms, 1000, 3600 * 1000),
	 SERVER_RANGE(max_retries, OPTION_INTEGER, max_retries, 0, 20),
	 SERVER(pagination, OPTION_PAGINATION, 0),
	 SERVER(supports_delta, OPTION_BOOLEAN, 0),
	 SERVER(ca_file, OPTION_FILE, OPTION_SUPERUSER),
	 SERVER(verify_tls, OPTION_BOOLEAN, OPTION_SUPERUSER),
	 SERVER(proxy, OPTION_PROXY, OPTION_SUPERUSER),
	 MAPPING(username, OPTION_USERNAME, 0),
	 MAPPING(password, OPTION_PASSWORD, OPTION_SECRET),
	 MAPPING_FILE(password_file),
	 MAPPING(api_key, OPTION_API_KEY, OPTION_SECRET),
	 MAPPING_FILE(api_key_file)};

/* A value after parsing; which member depends on the kind. */
typedef struct OptionValue
{
	int number;
	bool flag;
} OptionValue;

static const OptionDef *
find_option(Oid catalog, const char *name)
{
	for (int i = 0; i < (int) lengthof(option_table); i++)
	{
		if (option_table[i].catalog == catalog &&
			strcmp(option_table[i].name, name) == 0)
			return &option_table[i];
	}
	return NULL;
}

/* The same, with an error that names the valid ones where there is none. */
static const OptionDef *
get_option(Oid catalog, const char *name)
{
	const OptionDef *def = find_option(catalog, name);
	StringInfoData known;

	if (def != NULL)
		return def;
	initStringInfo(&known);
	for (int i = 0; i < (int) lengthof(option_table); i++)
	{
		if (option_table[i].catalog == catalog)
			appendStringInfo(&known, "%s%s", known.len > 0 ? ", " : "",
							 option_table[i].name);
	}
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
			 errmsg("invalid option \"%s\"", name),
			 known.len > 0 ?
				 errhint("Valid options in this context are: %s.", known.data) :
				 errhint("There are no valid options in this context.")));
	return NULL; /* keep compilers quiet */
}

/* ---- values: each says what would be right, never what a secret is ---- */

static bool
has_control(const char *value)
{
	for (const unsigned char *p = (const unsigned char *) value; *p; p++)
	{
		if (*p < ' ' || *p == 0x7f)
			return true;
	}
	return false;
}

static bool
parse_number(const char *value, int min, int max, int *number)
{
	char *end;
	long parsed;

	errno = 0;
	parsed = strtol(value, &end, 10);
	if (errno != 0 || end == value || *end != '\0' || parsed < min ||
		parsed > max)
		return false;
	*number = (int) parsed;
	return true;
}

/*
 * "10" is seconds, as everywhere in libpq; with a unit the server's own rules
 * for settings apply: "500ms", "10s", "2 min".
 */
static bool
parse_duration(const char *value, int min, int max, int *ms)
{
	const char *hint;
	char *end;
	double seconds;

	if (!isdigit((unsigned char) *value))
		return false;
	errno = 0;
	seconds = strtod(value, &end);
	while (*end == ' ')
		end++;
	if (errno == 0 && *end == '\0')
	{
		if (seconds * 1000 > max)
			return false;
		*ms = (int) rint(seconds * 1000);
	}
	else if (!parse_int(value, ms, GUC_UNIT_MS, &hint))
		return false;
	return *ms >= min && *ms <= max;
}

static bool
url_valid(const char *value, PfaUrl *url, const char **reason)
{
	if (!pfa_url_parse(value, url, reason))
		return false;
	if (pfa_host_classify(url->host) == PFA_ADDRESS_FORBIDDEN)
	{
		*reason =
			"must not name a link-local, metadata, multicast or unspecified address";
		return false;
	}
	if (!url->https && !pfa_host_is_loopback(url->host))
	{
		*reason = "must begin with https:// unless the host is loopback";
		return false;
	}
	return true;
}

static bool
text_valid(OptionKind kind, const char *value, const char **reason)
{
	PfaUrl url;

	*reason = "must not be empty";
	if (*value == '\0')
		return false;
	switch (kind)
	{
		case OPTION_URL:
			return url_valid(value, &url, reason);
		case OPTION_PROXY:
			return pfa_url_parse(value, &url, reason);
		case OPTION_FILE:
			*reason = "must be an absolute path";
			return is_absolute_path(value) && !has_control(value);
		case OPTION_USERNAME:
			*reason = "must not hold a colon or a control character";
			return strchr(value, ':') == NULL && !has_control(value);
		case OPTION_API_KEY:
			/* It becomes a header, and must not begin another one. */
			*reason = "must consist of visible ASCII characters";
			for (const char *p = value; *p != '\0'; p++)
			{
				if (*p <= ' ' || *p > '~')
					return false;
			}
			return true;
		default:
			*reason = "must not hold a control character";
			return !has_control(value);
	}
}

static void
refuse_value(const OptionDef *def, const char *reason)
{
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
			 errmsg("invalid value for option \"%s\"", def->name),
			 errdetail("The value %s.", reason)));
}

static void
parse_value(const OptionDef *def, const char *value, OptionValue *parsed)
{
	const char *reason;

	switch (def->kind)
	{
		case OPTION_INTEGER:
			if (!parse_number(value, def->min, def->max, &parsed->number))
				refuse_value(def,
							 psprintf("must be an integer from %d to %d",
									  def->min, def->max));
			return;
		case OPTION_DURATION:
			if (!parse_duration(value, def->min, def->max, &parsed->number))
				refuse_value(
					def,
					psprintf(
						"must be a number of seconds, or a number with a unit such as \"500ms\", \"10s\" or \"2min\", from %d ms to %d s",
						def->min, def->max / 1000));
			return;
		case OPTION_BOOLEAN:
			if (!parse_bool(value, &parsed->flag))
				refuse_value(def, "must be true or false");
			return;
		case OPTION_PAGINATION:
			if (strcmp(value, "offset") == 0)
				parsed->number = PFA_PAGINATION_OFFSET;
			else if (strcmp(value, "keyset") == 0)
				parsed->number = PFA_PAGINATION_KEYSET;
			else
				refuse_value(def, "must be \"offset\" or \"keyset\"");
			return;
		default:
			if (!text_valid(def->kind, value, &reason))
				refuse_value(def, reason);
	}
}

/* ---- lists ---- */

static void
refuse_both(List *options, const char *a, const char *b)
{
	if (pfa_source_option_get(options, a) != NULL &&
		pfa_source_option_get(options, b) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("options \"%s\" and \"%s\" cannot be used together", a,
						b),
				 errhint("Drop one of them in the same ALTER command.")));
}

static void
check_superuser(const OptionDef *def)
{
	if ((def->flags & OPTION_SUPERUSER) != 0 && !superuser())
		ereport(
			ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied to set option \"%s\"", def->name),
			 errdetail(
				 "Only superusers can set this option, or change other options of an object that has it.")));
}

void
pfa_source_options_check(Oid catalog, List *options, bool notice)
{
	ListCell *lc;

	foreach(lc, options)
	{
		DefElem *elem = lfirst_node(DefElem, lc);
		const OptionDef *def = get_option(catalog, elem->defname);
		OptionValue parsed;

		check_superuser(def);
		parse_value(def, defGetString(elem), &parsed);
		if (notice && strcmp(def->name, "verify_tls") == 0 && !parsed.flag)
			ereport(
				WARNING,
				(errmsg(
					 "without verify_tls, anyone in between can pose as PEMS and read the credentials"),
				 errhint(
					 "Use option \"ca_file\" to trust a certificate authority of your own.")));
		if ((def->flags & OPTION_SECRET) != 0 && notice)
			ereport(
				NOTICE,
				(errmsg(
					 "option \"%s\" shows in statement logs, pg_stat_statements and dumps",
					 def->name),
				 def->kind == OPTION_PASSWORD ?
					 errhint(
						 "Use option \"password_file\", or call pfa_set_credentials with bind parameters.") :
					 errhint("Use option \"api_key_file\".")));
	}
	refuse_both(options, "password", "password_file");
	refuse_both(options, "api_key", "api_key_file");
}

void
pfa_source_options_default(PfaSource *source)
{
	source->grid_name = pstrdup("CUPFAG");
	source->grid_id = pstrdup("100541");
	source->screen_name = pstrdup("CUPFA2");
	source->page_size = 10000;
	source->requests_in_flight = 2;
	source->writes_per_second = 10;
	source->connect_timeout_ms = 10 * 1000;
	source->timeout_ms = 120 * 1000;
	source->max_retries = 5;
	source->pagination = PFA_PAGINATION_OFFSET;
	source->supports_delta = false;
	source->verify_tls = true;
}

void
pfa_source_options_apply(PfaSource *source, Oid catalog, List *options)
{
	ListCell *lc;

	foreach(lc, options)
	{
		DefElem *elem = lfirst_node(DefElem, lc);
		const OptionDef *def = get_option(catalog, elem->defname);
		OptionValue parsed;
		char *field;

		parse_value(def, defGetString(elem), &parsed);
		if (def->offset < 0)
			continue;
		field = (char *) source + def->offset;
		switch (def->kind)
		{
			case OPTION_INTEGER:
			case OPTION_DURATION:
				*(int *) field = parsed.number;
				break;
			case OPTION_BOOLEAN:
				*(bool *) field = parsed.flag;
				break;
			case OPTION_PAGINATION:
				*(PfaPagination *) field = (PfaPagination) parsed.number;
				break;
			default:
				*(char **) field = pstrdup(defGetString(elem));
				break;
		}
	}
}

char *
pfa_source_option_get(List *options, const char *name)
{
	ListCell *lc;

	foreach(lc, options)
	{
		DefElem *elem = lfirst_node(DefElem, lc);

		if (strcmp(elem->defname, name) == 0)
			return defGetString(elem);
	}
	return NULL;
}

void
pfa_source_options_wipe(List *options)
{
	ListCell *lc;

	foreach(lc, options)
	{
		DefElem *elem = lfirst_node(DefElem, lc);
		const OptionDef *def = find_option(UserMappingRelationId,
										   elem->defname);

		if (def != NULL && (def->flags & OPTION_SECRET) != 0)
		{
			char *value = defGetString(elem);

			explicit_bzero(value, strlen(value));
		}
	}
}

void
pfa_source_url_parse(const char *base_url, PfaUrl *url)
{
	const char *reason;

	if (!url_valid(base_url, url, &reason))
		refuse_value(find_option(ForeignServerRelationId, "base_url"), reason);
}

bool
pfa_source_secret_valid(const char *name, const char *value,
						const char **reason)
{
	const OptionDef *def = find_option(UserMappingRelationId, name);

	Assert(def != NULL);
	return text_valid(def->kind, value, reason);
}
