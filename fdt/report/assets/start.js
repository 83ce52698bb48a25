const data = readData(document);
startTables(document);
if (find("plots")) startCurves(data);
if (find("episode-list")) startEpisodes(data);
if (data.live) poll();
