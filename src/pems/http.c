/*
 * http.c
 *	  HTTP to one origin: requests, answers, and what went wrong with them.
 *
 * One libcurl multi handle a client, which keeps connections alive between
 * requests; transfers and their easy handles are reused.  The loop that drives
 * them is in http_loop.c.
 *
 * What libcurl can do is cut down to what is wanted here: http and https, one
 * origin, no redirects, no .netrc, no proxy but the configured one, TLS from
 * 1.2 on.  Redirects are not followed because headers with credentials would
 * go along.  The address that is connected to is judged in the callback that
 * opens the socket: there is no later point at which a name could still mean
 * something else.
 *
 * libcurl allocates with malloc.  Its callbacks run between its own stack
 * frames, so they neither ereport nor palloc: they note what happened and
 * return.
 */
#include "postgres.h"

#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "pems/http_private.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

/* Bodies of answers other than 200 are kept up to here, then cut off. */
#define MAX_ERROR_BODY (64 * 1024)

/* All headers of an answer. */
#define MAX_HEADERS (256 * 1024)

/*
 * Receive buffers.  A big one makes plain bodies fast; a compressed body can
 * turn a full one into a hundred times as much in one go, so that it gets a
 * small one.  What the server does is known from its last large answer.
 */
#define BUFFER_FIRST   (64 * 1024L)
#define BUFFER_PLAIN   (512 * 1024L)
#define BUFFER_ENCODED (16 * 1024L)
#define LARGE_BODY     (256 * 1024)

/* libcurl's own limit on connecting comes first; this one is for its lapses. */
#define DEADLINE_SLACK_MS 300

/* ---- callbacks ---- */

static size_t
on_body(char *data, size_t size, size_t n, void *arg)
{
	PfaHttpTransfer *transfer = arg;
	size_t len = size * n;
	size_t room;
	long status = 0;

	if (transfer->pause_wanted)
	{
		/* libcurl keeps these bytes and brings them again */
		transfer->paused = true;
		return CURL_WRITEFUNC_PAUSE;
	}
	curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
	transfer->body_bytes += len;
	if (status == 200)
	{
		if (transfer->sink == NULL ||
			transfer->sink(transfer->sink_arg, data, len))
			return len;
		transfer->sink_stopped = true;
		return 0;
	}

	if (transfer->error_body == NULL)
	{
		transfer->error_body = malloc(MAX_ERROR_BODY + 1);
		if (transfer->error_body == NULL)
			return 0;
	}
	room = MAX_ERROR_BODY - transfer->error_body_len;
	memcpy(transfer->error_body + transfer->error_body_len, data,
		   Min(len, room));
	transfer->error_body_len += Min(len, room);
	transfer->error_body[transfer->error_body_len] = '\0';
	return len <= room ? len : 0;
}

/* Copy a header's value if the line is that header. */
static void
take_header(const char *line, size_t len, const char *name, char *value,
			size_t size)
{
	size_t name_len = strlen(name);

	if (len <= name_len || line[name_len] != ':' ||
		pg_strncasecmp(line, name, name_len) != 0)
		return;
	line += name_len + 1;
	len -= name_len + 1;
	while (len > 0 && (*line == ' ' || *line == '\t'))
	{
		line++;
		len--;
	}
	while (len > 0 && (unsigned char) line[len - 1] <= ' ')
		len--;
	len = Min(len, size - 1);
	memcpy(value, line, len);
	value[len] = '\0';
}

static size_t
on_header(char *data, size_t size, size_t n, void *arg)
{
	PfaHttpTransfer *transfer = arg;
	size_t len = size * n;
	char encoding[16] = "";

	transfer->header_bytes += len;
	if (transfer->header_bytes > MAX_HEADERS)
		return 0;
	if (len > 5 && strncmp(data, "HTTP/", 5) == 0)
	{
		/* headers of an interim answer are not those of the answer */
		transfer->retry_after[0] = '\0';
		transfer->date[0] = '\0';
		transfer->encoded = false;
	}
	take_header(data, len, "Retry-After", transfer->retry_after,
				sizeof(transfer->retry_after));
	take_header(data, len, "Date", transfer->date, sizeof(transfer->date));
	take_header(data, len, "Content-Encoding", encoding, sizeof(encoding));
	if (encoding[0] != '\0' && pg_strcasecmp(encoding, "identity") != 0)
		transfer->encoded = true;
	return len;
}

static bool
address_allowed(const PfaHttp *http, const struct sockaddr *address)
{
	PfaAddressClass class = pfa_address_classify(address);

	if (class == PFA_ADDRESS_FORBIDDEN)
		return false;
	/* plain http stays on this machine, and a name for it must be known */
	if (!http->url.https)
		return class == PFA_ADDRESS_LOOPBACK &&
			(http->private_hosts_allowed ||
			 pfa_host_is_loopback(http->url.host));
	/* with a proxy this is the proxy's address, which a superuser has set */
	return class == PFA_ADDRESS_PUBLIC || http->private_hosts_allowed ||
		http->proxy != NULL;
}

static curl_socket_t
on_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	PfaHttpTransfer *transfer = arg;
	int fd;

	if (purpose != CURLSOCKTYPE_IPCXN ||
		!address_allowed(transfer->http, &address->addr))
	{
		transfer->address_refused = true;
		return CURL_SOCKET_BAD;
	}
	transfer->address_tried = true;
	fd = socket(address->family, address->socktype | SOCK_CLOEXEC,
				address->protocol);
	if (fd < 0)
		return CURL_SOCKET_BAD;
	transfer->http->open_fds++;
	return fd;
}

static int
on_close_socket(void *arg, curl_socket_t fd)
{
	PfaHttp *http = arg;

	http->open_fds--;
	return close(fd);
}

/* ---- headers of requests ---- */

/* Free a list and leave nothing of it in memory: it holds the credentials. */
static void
free_headers(struct curl_slist *list)
{
	for (struct curl_slist *item = list; item != NULL; item = item->next)
		explicit_bzero(item->data, strlen(item->data));
	curl_slist_free_all(list);
}

static void
add_line(PfaHttp *http, const char *line)
{
	struct curl_slist *list = curl_slist_append(http->headers, line);

	if (list == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	http->headers = list;
}

/*
 * Add a header.  libcurl sends a value as it is, so a line break in it would
 * begin another header.
 */
static void
add_header(PfaHttp *http, const char *name, const char *value)
{
	char *line;

	for (const char *p = value; *p != '\0'; p++)
	{
		if ((unsigned char) *p < ' ' || *p == 0x7f)
			ereport(
				ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("value for header \"%s\" contains a control character",
						name)));
	}
	line = psprintf("%s: %s", name, value);
	add_line(http, line);
	explicit_bzero(line, strlen(line));
	pfree(line);
}

/* "user:password" in base64, palloc'd. */
static char *
basic_credentials(const char *username, const char *password)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char *plain = psprintf("%s:%s", username, password);
	size_t len = strlen(plain);
	char *result = palloc((len + 2) / 3 * 4 + 1);
	char *out = result;

	for (size_t i = 0; i < len; i += 3)
	{
		uint32 word = (uint8) plain[i] << 16;

		if (i + 1 < len)
			word |= (uint8) plain[i + 1] << 8;
		if (i + 2 < len)
			word |= (uint8) plain[i + 2];
		*out++ = digits[word >> 18];
		*out++ = digits[(word >> 12) & 63];
		*out++ = i + 1 < len ? digits[(word >> 6) & 63] : '=';
		*out++ = i + 2 < len ? digits[word & 63] : '=';
	}
	*out = '\0';
	explicit_bzero(plain, len);
	pfree(plain);
	return result;
}

static void
add_authorization(PfaHttp *http, const PfaHttpOptions *options)
{
	char *credentials;
	char *value;

	if (options->api_key != NULL)
		add_header(http, "X-API-Key", options->api_key);
	if (options->username == NULL || options->password == NULL)
		return;
	credentials = basic_credentials(options->username, options->password);
	value = psprintf("Basic %s", credentials);
	add_header(http, "Authorization", value);
	explicit_bzero(value, strlen(value));
	explicit_bzero(credentials, strlen(credentials));
	pfree(value);
	pfree(credentials);
}

void
pfa_http_set_organization(PfaHttp *http, const char *organization)
{
	static const char name[] = "organization:";
	struct curl_slist *old = http->headers;

	if (http->nrunning > 0)
		elog(ERROR, "cannot change headers while transfers run");
	/* the header is always last */
	for (struct curl_slist **item = &http->headers; *item != NULL;
		 item = &(*item)->next)
	{
		if (strncmp((*item)->data, name, strlen(name)) == 0)
		{
			old = *item;
			*item = NULL;
			free_headers(old);
			break;
		}
	}
	if (organization != NULL && organization[0] != '\0')
		add_header(http, "organization", organization);
}

/* ---- the client ---- */

/* libcurl, once a process and only in one that uses it. */
static void
init_libcurl(void)
{
	static bool done = false;
	sigset_t all;
	sigset_t before;
	CURLcode code;

	if (done)
		return;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	code = curl_global_init(CURL_GLOBAL_DEFAULT);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (code != CURLE_OK)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_ERROR),
				 errmsg("could not initialize libcurl: %s",
						curl_easy_strerror(code))));
	done = true;
}

static void
free_transfers(PfaHttp *http, PfaHttpTransfer *list)
{
	for (PfaHttpTransfer *t = list; t != NULL; t = t->next)
	{
		if (t->in_multi)
			curl_multi_remove_handle(http->multi, t->easy);
		if (t->easy != NULL)
			curl_easy_cleanup(t->easy);
		free(t->error_body);
	}
}

/*
 * Memory context callback.  A process that exits leaves libcurl alone: it
 * could wait there for a name server, and the kernel closes the sockets.
 */
static void
release(void *arg)
{
	PfaHttp *http = arg;

	if (!proc_exit_inprogress)
	{
		free_transfers(http, http->running);
		free_transfers(http, http->idle);
		http->running = http->idle = NULL;
		if (http->multi != NULL)
			curl_multi_cleanup(http->multi);
		http->multi = NULL;
		pfa_http_loop_detach(http);
	}
	free_headers(http->headers);
	http->headers = NULL;
}

static void
set_url(PfaHttp *http, const char *base_url)
{
	const char *reason;
	size_t len;

	http->base_url = pstrdup(base_url);
	for (len = strlen(base_url); len > 0 && base_url[len - 1] == '/'; len--)
		http->base_url[len - 1] = '\0';
	if (!pfa_url_parse(http->base_url, &http->url, &reason))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid base URL: it %s", reason)));
}

PfaHttp *
pfa_http_create(MemoryContext ctx, const PfaHttpOptions *options)
{
	MemoryContext context = AllocSetContextCreate(ctx, "pfa_vanguard HTTP",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	PfaHttp *http = palloc0(sizeof(PfaHttp));

	init_libcurl();
	http->context = context;
	http->callback.func = release;
	http->callback.arg = http;
	MemoryContextRegisterResetCallback(context, &http->callback);

	set_url(http, options->base_url);
	http->ca_file = options->ca_file ? pstrdup(options->ca_file) : NULL;
	/* plain http goes to this machine only, which needs no proxy */
	if (options->proxy != NULL && http->url.https)
		http->proxy = pstrdup(options->proxy);
	http->verify_tls = options->verify_tls;
	http->private_hosts_allowed = options->private_hosts_allowed;
	http->connect_timeout_ms = options->connect_timeout_ms;
	http->timeout_ms = options->timeout_ms;
	http->buffer_size = BUFFER_FIRST;

	add_line(http, "Content-Type: application/json");
	add_line(http, "Accept: application/json");
	add_line(http, "Expect:");
	add_authorization(http, options);
	if (options->tenant != NULL && options->tenant[0] != '\0')
		add_header(http, "tenant", options->tenant);
	pfa_http_set_organization(http, options->organization);

	http->multi = curl_multi_init();
	if (http->multi == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	pfa_http_loop_attach(http);
	MemoryContextSwitchTo(old);
	return http;
}

void
pfa_http_free(PfaHttp *http)
{
	MemoryContextDelete(http->context);
}

/* ---- a transfer ---- */

static void
set_connection_options(PfaHttpTransfer *transfer)
{
	PfaHttp *http = transfer->http;
	CURL *easy = transfer->easy;

	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
#if LIBCURL_VERSION_NUM >= 0x075700
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
#endif
#if LIBCURL_VERSION_NUM >= 0x075500
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
#else
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS,
					 (long) (CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	curl_easy_setopt(easy, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
	/* "" rather than NULL: NULL would mean the environment's proxy */
	curl_easy_setopt(easy, CURLOPT_PROXY, http->proxy ? http->proxy : "");
	curl_easy_setopt(easy, CURLOPT_NOPROXY, "");
	curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
					 (long) http->connect_timeout_ms);

	curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, http->verify_tls ? 1L : 0L);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, http->verify_tls ? 2L : 0L);
	if (http->ca_file != NULL)
	{
		curl_easy_setopt(easy, CURLOPT_CAINFO, http->ca_file);
		curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
		curl_easy_setopt(easy, CURLOPT_PROXY_CAINFO, http->ca_file);
	}

	curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, transfer);
	/* connections outlive transfers, so they are closed by the client */
	curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close_socket);
	curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, http);
}

/* The request itself.  False when out of memory. */
static bool
set_request_options(PfaHttpTransfer *transfer, const char *url,
					const char *body)
{
	PfaHttp *http = transfer->http;
	CURL *easy = transfer->easy;

	curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->curl_error);
	curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 1L);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "pfa_vanguard");
	curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, http->buffer_size);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_POST, 1L);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
					 (curl_off_t) strlen(body));
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, http->headers);
	return curl_easy_setopt(easy, CURLOPT_URL, url) == CURLE_OK &&
		curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "gzip") == CURLE_OK &&
		curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, body) == CURLE_OK;
}

/* A transfer to use, from those that have ended or a new one. */
static PfaHttpTransfer *
take_transfer(PfaHttp *http)
{
	PfaHttpTransfer *transfer = http->idle;
	CURL *easy = NULL;

	if (http->nrunning >= PFA_HTTP_MAX_RUNNING)
		elog(ERROR, "too many HTTP transfers");
	if (transfer != NULL)
	{
		http->idle = transfer->next;
		easy = transfer->easy;
		curl_easy_reset(easy);
		memset(transfer, 0, sizeof(PfaHttpTransfer));
	}
	else
		transfer = MemoryContextAllocZero(http->context,
										  sizeof(PfaHttpTransfer));
	transfer->http = http;
	transfer->easy = easy != NULL ? easy : curl_easy_init();
	transfer->outcome = PFA_HTTP_RUNNING;
	return transfer;
}

PfaHttpTransfer *
pfa_http_post(PfaHttp *http, const char *path, const char *body,
			  PfaHttpSink sink, void *arg)
{
	char *url = psprintf("%s%s", http->base_url, path);
	PfaHttpTransfer *transfer = take_transfer(http);
	bool ok = transfer->easy != NULL;

	transfer->sink = sink;
	transfer->sink_arg = arg;

	/*
	 * From when the last wait returned: the next one adds the time up to its
	 * own start.
	 */
	transfer->deadline = http->left_at + http->timeout_ms;
	transfer->connect_deadline = http->left_at + http->connect_timeout_ms +
		DEADLINE_SLACK_MS;
	transfer->next = http->running;
	http->running = transfer;
	http->nrunning++;

	if (ok)
	{
		set_connection_options(transfer);
		ok = set_request_options(transfer, url, body) &&
			curl_multi_add_handle(http->multi, transfer->easy) == CURLM_OK;
		transfer->in_multi = ok;
	}
	pfree(url);
	if (!ok)
	{
		pfa_http_finish(transfer);
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	}
	return transfer;
}

/* ---- how it ended ---- */

static bool
is_tls_error(const PfaHttpTransfer *transfer, CURLcode code)
{
	switch (code)
	{
		case CURLE_PEER_FAILED_VERIFICATION:
		case CURLE_SSL_CERTPROBLEM:
		case CURLE_SSL_CIPHER:
		case CURLE_SSL_CACERT_BADFILE:
		case CURLE_SSL_ISSUER_ERROR:
		case CURLE_SSL_ENGINE_NOTFOUND:
		case CURLE_SSL_ENGINE_SETFAILED:
		case CURLE_SSL_INVALIDCERTSTATUS:
		case CURLE_USE_SSL_FAILED:
			return true;
		case CURLE_SSL_CONNECT_ERROR:
			/* a connection that is cut in the handshake is the network's */
			return strstr(transfer->curl_error, "SYSCALL") == NULL &&
				strstr(transfer->curl_error, "reset by peer") == NULL &&
				strstr(transfer->curl_error, "unexpected eof") == NULL;
		default:
			return false;
	}
}

/*
 * Is it only that nobody we trust has signed the certificate?  The numbers are
 * OpenSSL's, which libcurl hands on; another TLS library gives none.
 */
static bool
is_issuer_unknown(const PfaHttpTransfer *transfer)
{
	long result = 0;

	curl_easy_getinfo(transfer->easy, CURLINFO_SSL_VERIFYRESULT, &result);
	switch (result)
	{
		case 2:  /* X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT */
		case 18: /* X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT */
		case 19: /* X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN */
		case 20: /* X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY */
		case 21: /* X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE */
			return true;
		default:
			return false;
	}
}

static void
describe_tls_error(PfaHttpTransfer *transfer, CURLcode code)
{
	const char *reason = transfer->curl_error[0] != '\0' ?
		transfer->curl_error :
		curl_easy_strerror(code);

	if (code == CURLE_SSL_CACERT_BADFILE)
		snprintf(transfer->error, sizeof(transfer->error),
				 "TLS: option ca_file: %s", reason);
	else if (code == CURLE_PEER_FAILED_VERIFICATION &&
			 is_issuer_unknown(transfer))
		snprintf(
			transfer->error, sizeof(transfer->error),
			"TLS: %s (option ca_file of the server names the file of those to trust)",
			reason);
	else
		snprintf(transfer->error, sizeof(transfer->error), "TLS: %s", reason);
}

/* Why the connection failed, in words that hold no more than a host. */
static void
describe_failure(PfaHttpTransfer *transfer, CURLcode code)
{
	PfaHttp *http = transfer->http;
	const char *host = http->url.host;
	char peer[PFA_HOST_LEN + 16];
	char *text = transfer->error;
	size_t size = sizeof(transfer->error);
	long os_errno = 0;
	long proxy_status = 0;
	curl_off_t connected = 0;

	if (http->proxy != NULL)
		snprintf(peer, sizeof(peer), "the proxy");
	else
		snprintf(peer, sizeof(peer), "%s port %d", host, http->url.port);
	curl_easy_getinfo(transfer->easy, CURLINFO_OS_ERRNO, &os_errno);
	curl_easy_getinfo(transfer->easy, CURLINFO_HTTP_CONNECTCODE, &proxy_status);
	curl_easy_getinfo(transfer->easy, CURLINFO_PRETRANSFER_TIME_T, &connected);
	switch (code)
	{
		case CURLE_COULDNT_RESOLVE_HOST:
			snprintf(text, size, "could not resolve host name \"%s\"", host);
			break;
		case CURLE_COULDNT_RESOLVE_PROXY:
			snprintf(text, size,
					 "could not resolve the host name of the proxy");
			break;
		case CURLE_COULDNT_CONNECT:
			snprintf(text, size, "could not connect to %s: %s", peer,
					 os_errno != 0 ? strerror((int) os_errno) :
									 "no address answers");
			break;
		case CURLE_OPERATION_TIMEDOUT:
			if (connected == 0)
				snprintf(text, size, "could not connect to %s within %g s",
						 peer, http->connect_timeout_ms / 1000.0);
			else
				snprintf(text, size, "no complete answer within %g s",
						 http->timeout_ms / 1000.0);
			break;
		case CURLE_PARTIAL_FILE:
		case CURLE_RECV_ERROR:
		case CURLE_SEND_ERROR:
		case CURLE_GOT_NOTHING:
			if (http->proxy != NULL && proxy_status != 0 && proxy_status != 200)
				snprintf(text, size,
						 "the proxy refused the connection (HTTP %ld)",
						 proxy_status);
			else
				snprintf(text, size,
						 "connection closed before the answer was complete");
			break;
		case CURLE_WRITE_ERROR:
			snprintf(text, size,
					 transfer->header_bytes > MAX_HEADERS ?
						 "headers of the answer are too long" :
						 "answer could not be stored: out of memory");
			break;
		case CURLE_BAD_CONTENT_ENCODING:
			snprintf(text, size, "answer is not valid gzip");
			break;
		default:
			snprintf(text, size, "%s", curl_easy_strerror(code));
			break;
	}
}

static void
describe_redirect(PfaHttpTransfer *transfer)
{
	char *location = NULL;
	char target[1024] = "";
	PfaUrl url;
	const char *reason;

	/* a query may hold anything, and says nothing about where */
	curl_easy_getinfo(transfer->easy, CURLINFO_REDIRECT_URL, &location);
	if (location != NULL)
		strlcpy(target, location,
				Min(strcspn(location, "?#") + 1, sizeof(target)));
	if (pfa_url_parse(target, &url, &reason))
		snprintf(transfer->error, sizeof(transfer->error),
				 "redirect (HTTP %d) to host \"%.100s\", which is not followed",
				 transfer->status, url.host);
	else
		snprintf(transfer->error, sizeof(transfer->error),
				 "redirect (HTTP %d), which is not followed", transfer->status);
}

static void
judge(PfaHttpTransfer *transfer, CURLcode code)
{
	PfaHttp *http = transfer->http;
	char *text = transfer->error;
	size_t size = sizeof(transfer->error);

	if (transfer->status >= 300 && transfer->status < 400)
	{
		transfer->outcome = PFA_HTTP_REDIRECT;
		describe_redirect(transfer);
	}
	else if (transfer->status != 200 && transfer->status >= 200 &&
			 (code == CURLE_OK || transfer->status >= 400))
	{
		/* an error whose body was cut is still that error */
		transfer->outcome = PFA_HTTP_STATUS;
		snprintf(text, size, "HTTP status %d", transfer->status);
	}
	else if (transfer->sink_stopped)
	{
		transfer->outcome = PFA_HTTP_SINK;
		snprintf(text, size, "answer could not be used");
	}
	else if (code == CURLE_OK)
		transfer->outcome = transfer->status == 200 ? PFA_HTTP_OK :
													  PFA_HTTP_NETWORK;
	else if (transfer->address_refused && !transfer->address_tried)
	{
		transfer->outcome = PFA_HTTP_REFUSED_ADDRESS;
		snprintf(
			text, size,
			http->url.https ?
				"address of host \"%s\" is not allowed" :
				"address of host \"%s\" is not this machine's, and http is not allowed elsewhere",
			http->url.host);
	}
	else if (is_tls_error(transfer, code))
	{
		transfer->outcome = PFA_HTTP_TLS;
		describe_tls_error(transfer, code);
	}
	else
	{
		transfer->outcome = PFA_HTTP_NETWORK;
		describe_failure(transfer, code);
	}
	/* text of a library or a server: one line, printable */
	for (char *p = text; *p != '\0'; p++)
	{
		if ((unsigned char) *p < ' ' || (unsigned char) *p > '~')
			*p = ' ';
	}
}

static int64
received(const PfaHttpTransfer *transfer)
{
	curl_off_t body = 0;
	long header = 0;

	curl_easy_getinfo(transfer->easy, CURLINFO_SIZE_DOWNLOAD_T, &body);
	curl_easy_getinfo(transfer->easy, CURLINFO_HEADER_SIZE, &header);
	return (int64) body + header;
}

static void
leave_running(PfaHttpTransfer *transfer)
{
	PfaHttp *http = transfer->http;

	if (transfer->in_multi)
		curl_multi_remove_handle(http->multi, transfer->easy);
	transfer->in_multi = false;
	for (PfaHttpTransfer **link = &http->running; *link != NULL;
		 link = &(*link)->next)
	{
		if (*link == transfer)
		{
			*link = transfer->next;
			http->nrunning--;
			break;
		}
	}
	transfer->next = NULL;
}

/* A transfer has ended, by libcurl's word or ours. */
void
pfa_http_conclude(PfaHttpTransfer *transfer, CURLcode code)
{
	PfaHttp *http = transfer->http;
	long status = 0;

	curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
	transfer->status = (int) status;
	transfer->bytes = received(transfer);
	judge(transfer, code);
	leave_running(transfer);
	if (transfer->encoded)
		http->buffer_size = BUFFER_ENCODED;
	else if (transfer->body_bytes > LARGE_BODY)
		http->buffer_size = BUFFER_PLAIN;
	http->news = true;
}

void
pfa_http_pause(PfaHttpTransfer *transfer)
{
	transfer->pause_wanted = true;
}

void
pfa_http_resume(PfaHttpTransfer *transfer)
{
	sigset_t all;
	sigset_t before;
	CURLcode code;

	transfer->pause_wanted = false;
	if (!transfer->paused || transfer->outcome != PFA_HTTP_RUNNING)
		return;
	transfer->paused = false;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	code = curl_easy_pause(transfer->easy, CURLPAUSE_CONT);
	pthread_sigmask(SIG_SETMASK, &before, NULL);

	/* an error here is told to us alone: libcurl would go on without it */
	if (code != CURLE_OK)
		pfa_http_conclude(transfer, code);
}

PfaHttpOutcome
pfa_http_outcome(const PfaHttpTransfer *transfer)
{
	return transfer->outcome;
}

int
pfa_http_status(const PfaHttpTransfer *transfer)
{
	return transfer->status;
}

/*
 * A date is taken relative to the server's own clock where it tells, so that
 * ours need not agree with it.  What cannot be meant (the past, a negative
 * number, no number at all) asks for no wait beyond the usual one: 0.
 */
double
pfa_http_retry_after(const PfaHttpTransfer *transfer)
{
	const char *text = transfer->retry_after;
	time_t when;
	time_t now;

	if (text[0] == '\0')
		return -1;
	if (strspn(text, "0123456789.") == strlen(text))
		return strtod(text, NULL);
	when = curl_getdate(text, NULL);
	now = transfer->date[0] != '\0' ? curl_getdate(transfer->date, NULL) : -1;
	if (now == (time_t) -1)
		now = time(NULL);
	if (when == (time_t) -1 || when < now)
		return 0;
	return (double) (when - now);
}

int64
pfa_http_bytes(const PfaHttpTransfer *transfer)
{
	if (transfer->outcome == PFA_HTTP_RUNNING)
		return received(transfer);
	return transfer->bytes;
}

const char *
pfa_http_error(const PfaHttpTransfer *transfer)
{
	return transfer->error;
}

const char *
pfa_http_error_body(const PfaHttpTransfer *transfer)
{
	return transfer->error_body != NULL ? transfer->error_body : "";
}

void
pfa_http_finish(PfaHttpTransfer *transfer)
{
	PfaHttp *http = transfer->http;

	if (transfer->outcome == PFA_HTTP_RUNNING)
		leave_running(transfer);
	free(transfer->error_body);
	transfer->error_body = NULL;
	if (transfer->easy == NULL)
	{
		pfree(transfer);
		return;
	}
	transfer->next = http->idle;
	http->idle = transfer;
}
