"""A local stand-in of the hub's HTTP interface: as much of it as uploads and downloads use."""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading
import urllib.parse

from huggingface_hub import constants

TOKEN = 'hf_test'


class FakeHub(http.server.ThreadingHTTPServer):
    """A hub that keeps the latest commit of each repository.

    Attributes:
      repos: for each USER/NAME its files, by path.
      private: the repositories that are not public.
      requests: method and path of every request.
      uploads: contents of the large file storage, by SHA-256.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(('127.0.0.1', 0), _Handler)
        self.repos, self.private, self.requests, self.uploads = {}, set(), [], {}

    @property
    def address(self):
        return f'http://127.0.0.1:{self.server_address[1]}'

    def commit(self, repo):
        """Return the id of the latest commit, which its contents decide."""
        total = hashlib.sha1(repo.encode())
        for path, data in sorted(self.repos[repo].items()):
            total.update(path.encode() + data)
        return total.hexdigest()


@contextlib.contextmanager
def serving(cache, monkeypatch):
    """Serve an empty hub, and let huggingface_hub use it with an empty cache and a token."""
    hub = FakeHub()
    thread = threading.Thread(target=hub.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    monkeypatch.setattr(constants, 'ENDPOINT', hub.address)
    files = hub.address + '/{repo_id}/resolve/{revision}/{filename}'
    monkeypatch.setattr(constants, 'HUGGINGFACE_CO_URL_TEMPLATE', files)
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(cache))
    monkeypatch.setattr(constants, 'HF_HUB_DISABLE_XET', True)  # a protocol of its own
    monkeypatch.setenv('HF_TOKEN', TOKEN)
    monkeypatch.setenv('HF_HUB_DISABLE_PROGRESS_BARS', '1')
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: FakeHub
    protocol_version = 'HTTP/1.0'  # no connection outlives the server

    def log_message(self, *args):
        """Print nothing."""

    def _handle(self):
        self.body = self.rfile.read(int(self.headers.get('Content-Length', 0)))
        path = urllib.parse.unquote(self.path.partition('?')[0])
        self.server.requests.append((self.command, path))
        for pattern, answer in _ROUTES.items():
            if found := re.fullmatch(pattern, f'{self.command} {path}'):
                return answer(self, *found.groups())
        return self._fail(404, 'EntryNotFound')

    do_GET = do_HEAD = do_POST = do_PUT = _handle

    def _may_write(self):
        if self.headers.get('Authorization') == f'Bearer {TOKEN}':
            return True
        self._fail(401, 'Unauthorized')
        return False

    def _send(self, data, code=200, **headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace('_', '-'), value)
        self.send_header('Content-Length', str(len(data)))
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(data)

    def _json(self, value, code=200):
        self._send(json.dumps(value).encode(), code, Content_Type='application/json')

    def _fail(self, code, error):
        self._send(b'{}', code, X_Error_Code=error, X_Error_Message=error)

    def _files(self, repo):
        if repo not in self.server.repos:
            self._fail(404, 'RepoNotFound')
            return None
        return self.server.repos[repo]

    def _info(self, repo, revision='main'):
        if (files := self._files(repo)) is not None:
            if revision not in ('main', self.server.commit(repo)):
                return self._fail(404, 'RevisionNotFound')
            names = [{'rfilename': path} for path in files]
            sha = self.server.commit(repo)
            self._json({'id': repo, 'sha': sha, 'siblings': names, 'tags': [], 'downloads': 0})
        return None

    def _tree(self, repo, revision, wanted=None):
        if (files := self._files(repo)) is not None:
            self._json(
                [
                    {'type': 'file', 'path': path, 'size': len(data), 'oid': _sha1(data)}
                    for path, data in files.items()
                    if wanted is None or path in wanted
                ]
            )

    def _paths_info(self, repo, revision):
        self._tree(repo, revision, urllib.parse.parse_qs(self.body.decode())['paths'])

    def _file(self, repo, revision, path):
        if (files := self._files(repo)) is not None:
            if path not in files:
                return self._fail(404, 'EntryNotFound')
            commit = self.server.commit(repo)
            self._send(files[path], ETag=f'"{_sha1(files[path])}"', X_Repo_Commit=commit)
        return None

    def _create(self):
        if self._may_write():
            wanted = json.loads(self.body)
            repo = f'{wanted["organization"]}/{wanted["name"]}'
            if repo in self.server.repos:
                return self._json({'url': f'{self.server.address}/{repo}'}, 409)
            self.server.repos[repo] = {}
            if wanted.get('private') or wanted.get('visibility') == 'private':
                self.server.private.add(repo)
            self._json({'url': f'{self.server.address}/{repo}'})
        return None

    def _preupload(self, repo, revision):
        if self._files(repo) is not None and self._may_write():
            files = [
                {
                    'path': each['path'],
                    'uploadMode': 'lfs' if each['path'].endswith('.safetensors') else 'regular',
                    'shouldIgnore': False,
                    'oid': None,
                }
                for each in json.loads(self.body)['files']
            ]
            self._json({'files': files})

    def _batch(self, repo):
        if self._may_write():
            objects = [
                each | {'actions': {'upload': {'href': f'{self.server.address}/lfs/{each["oid"]}'}}}
                for each in json.loads(self.body)['objects']
            ]
            self._json({'transfer': 'basic', 'objects': objects})

    def _store(self, oid):
        assert hashlib.sha256(self.body).hexdigest() == oid
        self.server.uploads[oid] = self.body
        self._send(b'')

    def _commit(self, repo, revision):
        if self._files(repo) is not None and self._may_write():
            files = self.server.repos[repo]
            for line in map(json.loads, self.body.splitlines()):
                value = line['value']
                if line['key'] == 'file':
                    files[value['path']] = base64.b64decode(value['content'])
                elif line['key'] == 'lfsFile':
                    files[value['path']] = self.server.uploads[value['oid']]
            url = f'{self.server.address}/{repo}/commit/{self.server.commit(repo)}'
            self._json({'commitUrl': url, 'commitOid': self.server.commit(repo)})

    def _validate(self):
        content = json.loads(self.body)['content']
        has_licence = re.search('^license: ', content, re.MULTILINE)
        self._json({'warnings': [], 'errors': []}, 200 if has_licence else 400)


def _sha1(data):
    return hashlib.sha1(data).hexdigest()


_REPO = r'([^/]+/[^/]+)'
_ROUTES = {
    rf'GET /api/models/{_REPO}': _Handler._info,
    rf'GET /api/models/{_REPO}/revision/(.+)': _Handler._info,
    rf'GET /api/models/{_REPO}/tree/([^/]+)': _Handler._tree,
    rf'POST /api/models/{_REPO}/paths-info/([^/]+)': _Handler._paths_info,
    rf'(?:GET|HEAD) /{_REPO}/resolve/([^/]+)/(.+)': _Handler._file,
    r'POST /api/repos/create': _Handler._create,
    r'POST /api/validate-yaml': _Handler._validate,
    rf'POST /api/models/{_REPO}/preupload/([^/]+)': _Handler._preupload,
    rf'POST /{_REPO}\.git/info/lfs/objects/batch': _Handler._batch,
    r'PUT /lfs/(\w+)': _Handler._store,
    rf'POST /api/models/{_REPO}/commit/([^/]+)': _Handler._commit,
}
