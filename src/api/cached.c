/*
 * cached.c
 *	  Answers of the API, from the cache where they can be: see cached.h.
 *
 * Keys, and what each is made from:
 *
 *	pfa:{org}:data					first page, no arguments	records
 *	pfa:{org}:data:{hash}			any other page				records
 *	pfa:{org}:data[...]:user:{user} for one who has drafts		records, drafts
 *	pfa:{org}:stats[:user:{user}]								the same
 *	org:{org}:config											config
 *	user:{user}:perms											user
 *
 * Most users have no drafts in an organization, and they all see the same: so
 * a page is shared by them, and whether the caller is one of them is looked up
 * at each call, under the snapshot that the page is for.
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "api/cached.h"
#include "catalog/cache_watch.h"
#include "catalog/read.h"

#define DATA_TTL_MS        (300 * INT64CONST(1000))
#define STATS_TTL_MS       (300 * INT64CONST(1000))
#define CONFIG_TTL_MS      (900 * INT64CONST(1000))
#define PERMISSIONS_TTL_MS (900 * INT64CONST(1000))
#define AI_TTL_MS          (3600 * INT64CONST(1000))

#define DEFAULT_PAGE_SIZE 100
#define HASH_BYTES        16

/* False where the names are none that there can be. */
static bool
add_subject(PfaCacheItem *item, PfaSubjectKind kind,
			const char *organization_id, const char *user_id)
{
	return pfa_subject_set(&item->subjects[item->nsubjects++], kind,
						   organization_id, user_id);
}

static char *
make_key(const char *space, const char *name, const char *rest)
{
	StringInfoData key;

	initStringInfo(&key);
	appendStringInfo(&key, "%s:", space);
	pfa_cache_key_name(&key, name);
	appendStringInfoString(&key, rest);
	return key.data;
}

static Jsonb *
fetch(PfaCacheItem *item, bool usable, PfaCacheCompute compute, void *arg)
{
	if (!usable || !pfa_cache_watched())
		return compute(arg);
	item->scope = pfa_relation_oid(PFA_REL_MIRROR);
	return pfa_cache_fetch(item, compute, arg);
}

/* ---- what a user with drafts sees otherwise ---- */

static bool
has_drafts(const char *organization_id, const char *user_id)
{
	PfaRead read;
	NullableDatum key[] = {pfa_string_value(organization_id),
						   pfa_string_value(user_id)};
	bool found;

	pfa_read_open(&read, PFA_REL_MODIFICATION, PFA_REL_MODIFICATION_DRAFT,
				  GetActiveSnapshot());
	pfa_read_seek(&read, key, lengthof(key));
	found = pfa_read_next(&read);
	pfa_read_close(&read);
	return found;
}

/* Whose the item is, and what it is made from; ends the key. */
static bool
add_viewer(PfaCacheItem *item, StringInfo key, const char *organization_id,
		   const char *user_id)
{
	bool known = add_subject(item, PFA_SUBJECT_RECORDS, organization_id, NULL);

	if (known && has_drafts(organization_id, user_id))
	{
		appendStringInfoString(key, ":user:");
		pfa_cache_key_name(key, user_id);
		known = add_subject(item, PFA_SUBJECT_DRAFTS, organization_id, user_id);
	}
	item->key = key->data;
	return known;
}

/* ---- pages ---- */

static bool
is_default(const PfaPageRequest *request)
{
	return request->page_size == DEFAULT_PAGE_SIZE && request->cursor == NULL &&
		request->sort.column == NULL && !request->sort.descending &&
		JB_ROOT_COUNT(request->filters) == 0;
}

static bool
update_hash(pg_cryptohash_ctx *hash, const void *bytes, size_t len)
{
	return pg_cryptohash_update(hash, bytes, len) >= 0;
}

/* A hash of the arguments that nobody can find a second meaning for. */
static bool
hash_arguments(const PfaPageRequest *request, char *hex)
{
	pg_cryptohash_ctx *hash = pg_cryptohash_create(PG_SHA256);
	uint8 digest[PG_SHA256_DIGEST_LENGTH];
	int32 numbers[3] = {request->page_size,
						request->sort.column == NULL ?
							0 :
							request->sort.column->attno,
						request->sort.descending};
	bool done;

	/* The cursor ends with its NUL, or is not there: filters follow. */
	done = hash != NULL && pg_cryptohash_init(hash) >= 0 &&
		update_hash(hash, numbers, sizeof(numbers)) &&
		update_hash(hash, request->cursor == NULL ? "" : request->cursor,
					request->cursor == NULL ? 1 :
											  strlen(request->cursor) + 1) &&
		update_hash(hash, request->filters, VARSIZE(request->filters)) &&
		pg_cryptohash_final(hash, digest, sizeof(digest)) >= 0;
	pg_cryptohash_free(hash);
	if (done)
		hex[hex_encode((const char *) digest, HASH_BYTES, hex)] = '\0';
	return done;
}

static bool
page_item(PfaCacheItem *item, const PfaPageRequest *request)
{
	char hex[HASH_BYTES * 2 + 1];
	StringInfoData key;

	item->keyspace = PFA_KEYSPACE_DATA;
	item->ttl_ms = DATA_TTL_MS;
	initStringInfo(&key);
	appendStringInfoString(&key, "pfa:");
	pfa_cache_key_name(&key, request->organization_id);
	appendStringInfoString(&key, ":data");
	if (!is_default(request))
	{
		if (!hash_arguments(request, hex))
			return false;
		appendStringInfo(&key, ":%s", hex);
	}
	return add_viewer(item, &key, request->organization_id, request->user_id);
}

static Jsonb *
compute_page(void *arg)
{
	return pfa_page_get(arg);
}

Jsonb *
pfa_cached_page(const PfaPageRequest *request)
{
	PfaCacheItem item = {0};
	PfaPageRequest copy = *request;

	return fetch(&item, pfa_cache_is_on() && page_item(&item, request),
				 compute_page, &copy);
}

/* ---- documents ---- */

Jsonb *
pfa_cached_stats(const char *organization_id, const char *user_id,
				 PfaCacheCompute compute, void *arg)
{
	PfaCacheItem item = {0};
	StringInfoData key;

	item.keyspace = PFA_KEYSPACE_STATS;
	item.ttl_ms = STATS_TTL_MS;
	initStringInfo(&key);
	appendStringInfoString(&key, "pfa:");
	pfa_cache_key_name(&key, organization_id);
	appendStringInfoString(&key, ":stats");
	return fetch(&item,
				 pfa_cache_is_on() &&
					 add_viewer(&item, &key, organization_id, user_id),
				 compute, arg);
}

Jsonb *
pfa_cached_config(const char *organization_id, PfaCacheCompute compute,
				  void *arg)
{
	PfaCacheItem item = {0};

	item.keyspace = PFA_KEYSPACE_CONFIG;
	item.key = make_key("org", organization_id, ":config");
	item.ttl_ms = CONFIG_TTL_MS;
	return fetch(&item,
				 add_subject(&item, PFA_SUBJECT_CONFIG, organization_id, NULL),
				 compute, arg);
}

Jsonb *
pfa_cached_permissions(const char *user_id, PfaCacheCompute compute, void *arg)
{
	PfaCacheItem item = {0};

	item.keyspace = PFA_KEYSPACE_PERMISSIONS;
	item.key = make_key("user", user_id, ":perms");
	item.ttl_ms = PERMISSIONS_TTL_MS;
	return fetch(&item, add_subject(&item, PFA_SUBJECT_USER, NULL, user_id),
				 compute, arg);
}

/* ---- keys that somebody else wrote ---- */

/* What is kept under an organization or user is as good as the triggers are. */
static bool
is_watched(PfaCacheItem *item)
{
	item->scope = pfa_relation_oid(PFA_REL_MIRROR);
	return item->nsubjects == 0 || pfa_cache_watched();
}

Jsonb *
pfa_cached_value(PfaCacheItem *item)
{
	return is_watched(item) ? pfa_cache_get_value(item) : NULL;
}

bool
pfa_cached_keep(PfaCacheItem *item, Jsonb *value)
{
	return is_watched(item) && pfa_cache_set_value(item, value);
}

static void
add_named_subject(PfaCacheItem *item, PfaSubjectKind kind,
				  const char *organization_id, const char *user_id)
{
	if (!add_subject(item, kind, organization_id, user_id))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg(
					 "the key's name of an organization or user is too long")));
}

static bool
begins_with(const char **text, const char *start)
{
	size_t len = strlen(start);

	if (strncmp(*text, start, len) != 0)
		return false;
	*text += len;
	return true;
}

/* [:user:{user}], and nothing behind it. */
static bool
parse_viewer(const char *rest, const char **user_id)
{
	if (*rest == '\0')
		return true;
	if (!begins_with(&rest, ":user:"))
		return false;
	*user_id = pfa_cache_key_parse(&rest);
	return *rest == '\0';
}

/* [:{hash}], moving on behind it. */
static const char *
skip_hash(const char *rest)
{
	if (*rest == ':' && strspn(rest + 1, "0123456789abcdef") == HASH_BYTES * 2)
		rest += 1 + HASH_BYTES * 2;
	return rest;
}

/* Below pfa:{org}. */
static PfaCachedKey
parse_records(const char *rest, PfaCacheItem *item, const char *organization_id,
			  const char **user_id)
{
	PfaKeyspace keyspace = PFA_KEYSPACE_OTHER;

	add_named_subject(item, PFA_SUBJECT_RECORDS, organization_id, NULL);
	if (begins_with(&rest, ":stats"))
		keyspace = PFA_KEYSPACE_STATS;
	else if (begins_with(&rest, ":data"))
	{
		keyspace = PFA_KEYSPACE_DATA;
		rest = skip_hash(rest);
	}
	if (keyspace == PFA_KEYSPACE_OTHER || !parse_viewer(rest, user_id))
		return PFA_KEY_ORGANIZATION;
	item->keyspace = keyspace;
	if (*user_id != NULL)
		add_named_subject(item, PFA_SUBJECT_DRAFTS, organization_id, *user_id);
	return PFA_KEY_FILLED;
}

static PfaCachedKey
parse_free(const char *key, PfaCacheItem *item)
{
	item->ttl_ms = AI_TTL_MS;
	if (strncmp(key, "ai:query:", 9) == 0)
		item->keyspace = PFA_KEYSPACE_AI;
	return PFA_KEY_FREE;
}

PfaCachedKey
pfa_cached_parse_key(const char *key, PfaCacheItem *item,
					 const char **organization_id, const char **user_id)
{
	const char *rest = key;

	memset(item, 0, sizeof(*item));
	item->keyspace = PFA_KEYSPACE_OTHER;
	item->key = key;
	*organization_id = NULL;
	*user_id = NULL;
	if (begins_with(&rest, "pfa:"))
	{
		*organization_id = pfa_cache_key_parse(&rest);
		return parse_records(rest, item, *organization_id, user_id);
	}
	if (begins_with(&rest, "org:"))
	{
		*organization_id = pfa_cache_key_parse(&rest);
		add_named_subject(item, PFA_SUBJECT_CONFIG, *organization_id, NULL);
		if (strcmp(rest, ":config") != 0)
			return PFA_KEY_ORGANIZATION;
		item->keyspace = PFA_KEYSPACE_CONFIG;
		return PFA_KEY_FILLED;
	}
	if (begins_with(&rest, "user:"))
	{
		*user_id = pfa_cache_key_parse(&rest);
		add_named_subject(item, PFA_SUBJECT_USER, NULL, *user_id);
		if (strcmp(rest, ":perms") != 0)
			return PFA_KEY_USER;
		item->keyspace = PFA_KEYSPACE_PERMISSIONS;
		return PFA_KEY_FILLED;
	}
	return parse_free(key, item);
}
