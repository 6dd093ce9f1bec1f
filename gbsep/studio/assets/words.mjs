// @ts-check
/* All that the page says, in English and Korean: one table. */

const WORDS = {
  accept: ["Accept", "승인"],
  accepted: ["Accepted", "승인됨"],
  add: ["Add", "추가"],
  addEffect: ["Add an effect", "이펙트 추가"],
  addPoint: ["Automation point here", "여기에 오토메이션 지점"],
  allParameters: ["All parameters", "모든 파라미터"],
  after: ["Changed", "변경"],
  all: ["all", "전체"],
  batchAll: ["Render all songs", "모든 곡 렌더링"],
  bass: ["bass", "베이스"],
  beats: ["beats", "박"],
  before: ["Before", "변경 전"],
  blind: ["Blind test", "블라인드 테스트"],
  blindHow: ["One stem, equally loud, names hidden. Switch with 1 to 9, then vote.", "한 스템, 같은 음량, 이름 가림. 1–9로 바꿔 듣고 고르세요."],
  blindNeeds: ["A blind test needs two renders of one stem", "블라인드 테스트에는 같은 스템의 렌더링이 둘 이상 필요합니다"],
  blindShown: ["Names are shown. Another round shuffles them again.", "이름이 보입니다. 다음 판에서 다시 섞습니다."],
  bypass: ["Bypass", "우회"],
  cancel: ["Cancel", "취소"],
  cancelled: ["cancelled", "취소됨"],
  chain: ["Effects", "이펙트"],
  choose: ["Choose files", "파일 선택"],
  close: ["Close", "닫기"],
  compare: ["Compare with before", "변경 전과 비교"],
  countIn: ["Count-in", "카운트인"],
  dark: ["Dark or light", "어둡게 / 밝게"],
  dawproject: ["DAWproject", "DAWproject"],
  demo: ["Try it with a made-up song", "연습용 곡으로 해 보기"],
  done: ["done", "완료"],
  download: ["Download", "내려받기"],
  drag: ["drag out of the page, or click", "페이지 밖으로 끌거나 클릭"],
  drop: ["Drop songs here", "곡을 여기에 놓으세요"],
  dropMore: ["WAV, FLAC, MP3 and more, up to hours. They stay on this machine.", "WAV, FLAC, MP3 등, 몇 시간까지. 이 기기를 벗어나지 않습니다."],
  empty: ["No song yet", "아직 곡이 없습니다"],
  export: ["Export the mix", "믹스 내보내기"],
  endBlind: ["End the test", "테스트 끝내기"],
  failed: ["failed", "실패"],
  filter: ["Filter songs", "곡 찾기"],
  figures: ["Figures and spectrograms", "수치와 스펙트로그램"],
  findings: ["Findings", "진단"],
  first: ["first seconds", "앞부분"],
  format: ["Format", "형식"],
  getWeights: ["Get the weights", "가중치 받기"],
  guitar: ["guitar", "기타"],
  isBest: ["is best", "이(가) 가장 좋음"],
  inFormat: ["Render in this format", "이 형식으로 렌더링"],
  key: ["Key", "조"],
  keys: ["Keys", "단축키"],
  language: ["한국어", "English"],
  later: ["Later", "아래로"],
  earlier: ["Earlier", "위로"],
  left: ["left", "남음"],
  level: ["Level", "레벨"],
  listen: ["Mixer", "믹서"],
  loop: ["Loop", "반복"],
  loopEnd: ["Loop ends here", "반복 끝"],
  loopOff: ["No loop", "반복 해제"],
  loopStart: ["Loop starts here", "반복 시작"],
  bars4: ["Loop four bars", "네 마디 반복"],
  matched: ["at equal loudness", "같은 음량으로"],
  mixture: ["mixture", "원곡"],
  mute: ["Mute", "음소거"],
  name: ["Name", "이름"],
  names: ["Names", "파일 이름"],
  nextRound: ["Next round", "다음 판"],
  none: ["No effects: the stem is as it was separated.", "이펙트 없음: 분리된 그대로입니다."],
  noPlugins: ["No plug-ins on this machine", "이 기기에 플러그인이 없습니다"],
  note: ["Write a note here", "여기에 메모"],
  notes: ["Notes", "메모"],
  pan: ["Pan", "좌우"],
  pause: ["Pause", "일시 정지"],
  picture: ["Spectrogram or waveform", "스펙트로그램 / 파형"],
  pitch: ["Transpose", "조옮김"],
  play: ["Play", "재생"],
  plugins: ["Plug-ins", "플러그인"],
  player: ["Player", "플레이어"],
  playAlong: ["Play-along", "반주"],
  practice: ["Practice", "연습"],
  preset: ["Preset", "프리셋"],
  queue: ["Queue", "대기열"],
  quality: ["seconds of work per second of song", "곡 1초당 작업 시간(초)"],
  reaper: ["REAPER project", "REAPER 프로젝트"],
  redo: ["Redo", "다시 실행"],
  reject: ["Reject", "거절"],
  rejected: ["Rejected", "거절됨"],
  remove: ["Remove", "제거"],
  render: ["Separate", "분리"],
  report: ["Report of all songs", "전체 보고서"],
  residual: ["residual", "나머지"],
  review: ["Review", "검토"],
  running: ["at work", "작업 중"],
  save: ["Save as preset", "프리셋으로 저장"],
  saveRender: ["Save and render", "저장하고 렌더링"],
  saved: ["Saved as", "저장됨:"],
  seconds: ["s", "초"],
  seek: ["Time", "시간"],
  selection: ["only the loop", "반복 구간만"],
  session: ["Sessions", "세션"],
  shape: ["Shape", "모양"],
  shape_exponential: ["by equal ratios", "같은 비율로"],
  shape_hold: ["in steps", "계단"],
  shape_linear: ["straight", "직선"],
  solo: ["Solo", "솔로"],
  songs: ["Songs", "곡"],
  speed: ["Speed", "속도"],
  stems: ["Stems", "스템"],
  swap: ["Swap bass and guitar", "베이스와 기타 바꾸기"],
  takeHome: ["Take home", "가져가기"],
  tempo: ["Tempo", "템포"],
  undoNotes: ["Take back the notes", "적은 음 취소"],
  undo: ["Undo", "실행 취소"],
  unreviewed: ["Not reviewed", "미검토"],
  usePreset: ["Use this preset for the song", "이 곡에 이 프리셋 사용"],
  variants: ["Variants", "변형"],
  volume: ["Volume", "음량"],
  waiting: ["waiting", "대기 중"],
  waitingRest: ["waiting for the rest", "나머지를 기다리는 중"],
  wet: ["Wet", "웨트"],
  working: ["Working …", "작업 중 …"],
  writtenNone: ["No notes were heard there", "들리는 음이 없습니다"],
  writtenShow: ["Notes of", "음 보기:"],
  writtenWrite: ["Write down the notes of", "음 적기:"],
  zoomIn: ["Zoom in", "확대"],
  zoomOut: ["Zoom out", "축소"],
  kind_all: ["All", "모두"],
  kind_apart: ["Not separated", "분리 전"],
  kind_found: ["With findings", "진단 있음"],
  kind_undecided: ["Not reviewed", "미검토"],
  own: ["Your presets", "내 프리셋"],
  separateBy: ["Separate by", "분리 방법"],
  stepDrop: ["Drop recordings anywhere on this page. The first 20 seconds come apart first and play.", "녹음 파일을 이 페이지 아무 곳에나 놓으세요. 앞 20초가 먼저 분리되어 재생됩니다."],
  stepHome: ["Take home stems, a play-along, or a session for your DAW.", "스템, 반주, DAW 세션을 가져가세요."],
  stepMix: ["Mute, solo, loop and slow down what you hear.", "음소거, 솔로, 구간 반복, 느리게 듣기."],
  stepTurn: ["Put effects on each stem: you hear what a render will be.", "스템마다 이펙트를 겁니다. 들리는 소리가 곧 렌더링 결과입니다."],
  welcome: ["Hear bass and guitar apart", "베이스와 기타를 따로 듣기"],
  which: ["Which songs", "어떤 곡"],
  keyPlay: ["Play or pause", "재생 / 일시 정지"],
  keySeek: ["Five seconds back or on; with Shift one", "5초 뒤로 / 앞으로, Shift와 함께 1초"],
  keySolo: ["Solo a strip; with Shift mute it", "스트립 솔로, Shift와 함께 음소거"],
  keyAB: ["Mixture and mix, at equal loudness", "원곡과 믹스 비교, 같은 음량"],
  keyLoop: ["Loop start, loop end, no loop, four bars", "반복 시작, 끝, 해제, 네 마디"],
  keySpeed: ["Slower, faster", "느리게, 빠르게"],
  keyPitch: ["Lower, higher by a semitone", "반음 아래로, 위로"],
  keyFinding: ["Next or previous finding", "다음 / 이전 진단"],
  keySong: ["Song before or after", "이전 / 다음 곡"],
  keyUndo: ["Undo, redo a change of the effects", "이펙트 변경 취소 / 다시 실행"],
  keyZoom: ["Zoom", "확대 / 축소"],
  keyLook: ["Dark or light, spectrogram or waveform", "어둡게 / 밝게, 스펙트로그램 / 파형"],
  keyHelp: ["These keys", "단축키 보기"],
};

let language = recall();

function recall() {
  try {
    const kept = localStorage.getItem("gbsep-language");
    if (kept) return kept;
  } catch {
    // nothing is kept here
  }
  return navigator.language?.startsWith("ko") ? "ko" : "en";
}

/* What something is called; a name that is not in the table is its own. */
export function t(key) {
  const both = WORDS[key];
  return both ? both[language === "ko" ? 1 : 0] : key;
}

export const tongue = () => language;

export function toggleLanguage() {
  language = language === "ko" ? "en" : "ko";
  document.documentElement.lang = language;
  try {
    localStorage.setItem("gbsep-language", language);
  } catch {
    // for this page only, then
  }
}

export const table = () => WORDS;
