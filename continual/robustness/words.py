"""Small lists of words and signs that mean the same, written for this purpose; they cover what is common, not all.

Synonyms are verbs and nouns of requests and headlines that may stand for each other in most sentences. Look-alikes are
letters of Cyrillic and Greek that print as Latin ones do. The characters are commonest ones of simplified Chinese whose
traditional form is the same in nearly all words.
"""

__all__ = ["LOOK_ALIKES", "NEIGHBOURS", "SYNONYMS", "TRADITIONAL"]

SYNONYMS = {
    "acquire": "buy", "amount": "sum", "answer": "reply", "assist": "help", "begin": "start", "big": "large",
    "broken": "damaged", "buy": "purchase", "cancel": "revoke", "change": "alter", "check": "verify",
    "climb": "rise", "close": "shut", "company": "firm", "cost": "price", "drop": "fall", "end": "finish",
    "error": "mistake", "fall": "drop", "fast": "quick", "fee": "charge", "find": "locate", "fix": "repair",
    "gain": "rise", "get": "receive", "happen": "occur", "help": "assist", "increase": "rise", "issue": "problem",
    "job": "work", "large": "big", "locate": "find", "loss": "decline", "lost": "missing", "mistake": "error",
    "money": "funds", "need": "require", "phone": "mobile", "pick": "choose", "price": "cost", "problem": "issue",
    "purchase": "buy", "quick": "fast", "quickly": "fast", "receive": "get", "repair": "fix", "reply": "answer",
    "require": "need", "rise": "climb", "send": "transmit", "shop": "store", "show": "display", "slow": "sluggish",
    "start": "begin", "steal": "rob", "stolen": "taken", "stop": "halt", "store": "shop", "tell": "inform",
    "try": "attempt", "use": "employ", "wait": "stay", "want": "wish", "weak": "feeble", "whole": "entire",
    "wrong": "incorrect", "zone": "area",
    "下跌": "走低", "上涨": "走高", "价格": "价钱", "便宜": "实惠", "公司": "企业", "喜欢": "喜爱",
    "好吃": "美味", "帮助": "协助", "开始": "着手", "手机": "移动电话", "东西": "物品",
    "服务员": "店员", "味道": "口味", "外卖": "外送", "送餐": "送饭", "难吃": "不好吃", "非常": "十分", "餐厅": "饭店",
}  # fmt: skip

NEIGHBOURS = {  # on a keyboard of English letters
    "a": "sqz", "b": "vgn", "c": "xvd", "d": "sfe", "e": "wrd", "f": "dgr", "g": "fht", "h": "gjy", "i": "uok",
    "j": "hku", "k": "jli", "l": "kop", "m": "njk", "n": "bmh", "o": "ipl", "p": "ol", "q": "wa", "r": "etf",
    "s": "adw", "t": "ryg", "u": "yij", "v": "cbf", "w": "qes", "x": "zcs", "y": "tuh", "z": "xa",
}  # fmt: skip

LOOK_ALIKES = str.maketrans("aceopxyiABCEHKMOPTXY", "асеорхуіАВСЕНКМОРТХУ")

TRADITIONAL = str.maketrans(
    "万与专业东两严个丰临为丽举义乐习乡书买乱争亏亚产亲亿仅从仓仪们价众优会伟传伤体余佣侠侧侦侨债倾偿储儿兑党兰关"
    "兴养兽内冈册写军农冯冲决况冻净凉减凤凭凯击创删别刚剂剑剧劝办务动励劲劳势勋区医华协单卖卢卫却厂厅历厉压厌县参"
    "双发变叙号叹吁后吓吗听启员呜咏响哑唤啰团园围国图圆圣场坏块坚坛坟坠垄垒垦埘堑堕墙壮声壳处备复头夸夹夺奋奖妆妇"
    "妈娄娱婴学宁宝实审宪宫宽宾对寻导寿将尔尘尝层属岁岂岗岛岭币帅师帐帘帜带帮库应庙废开异弃张弥弯弹强归当录彻径忆"
    "忧怀态怜总恋恶恼悦悬惊惧惨惯愤愿懒戏战户扑执扩扫扬扰抚抛抢护报担拟拥择挂挡挤挥损换据掷掸揽搀摄摆摇敌数斋斗断"
    "无旧时旷昙昼显晓晕暂术机杀杂权条来杨极构枪柜标栈栋树样档桥梦检楼榄欢欧残毁毕气汇汉汤沟没沥沦沧泪泽洁浅测济浏"
    "浓涛涡润涨渊渐渔温湾湿滚满滤滨灭灯灵灾炉点炼烂烦烧热爱爷牵犹独狭狮猎献环现琐电画畅疗疯痒盐监盖盘着睁矿码砖确"
    "础硕礼祸离种积称稳穷窃窜竞笔笼筑签简类粮紧纠红纤约级纪纯纲纳纵纷纸纹线练组细织终经绑结绕给络绝统继绩续维绿缓编"
    "缘缩网罗罚罢职联聪肃肤肾肿胀胁胜脏脑脚脱脸腊腻舰艺节苏苹范茎荐药莱获营萨葱蒋蓝虑虽虾蚀蚂蛮补衬袭装见观规视览"
    "觉触计订认讨让训议记讲许论设访证评识诉词译试诗话询该详语误说请诸读课谁调谈谢谱贝贞负财责败货质购贯贵贷费贺资赏"
    "赔赖赛赞赠赢赵趋跃践车轨转轮软轻载较辆辉输辞边达迁过迈运还这进远违连迟适选递逻遗邓邮邻郑酱释里鉴针钉钓钟钢钱铁"
    "铃铜铝铺链销锁锅锋错键锦镇镜长门闪闭问闲间闷闹闻阀阅队阳阴阵阶际陆陈险随隐难雾静韩页顶项顺须顾顿预领颇频题"
    "颜额风飞饥饭饮饰饱饼馆马驱驶驻驾验骑骗骤鱼鲁鲜鸟鸡鸣鸭鸿鹅麦黄齐龄龙龟",
    "萬與專業東兩嚴個豐臨為麗舉義樂習鄉書買亂爭虧亞產親億僅從倉儀們價眾優會偉傳傷體餘傭俠側偵僑債傾償儲兒兌黨蘭關"
    "興養獸內岡冊寫軍農馮衝決況凍淨涼減鳳憑凱擊創刪別剛劑劍劇勸辦務動勵勁勞勢勳區醫華協單賣盧衛卻廠廳歷厲壓厭縣參"
    "雙發變敘號嘆籲後嚇嗎聽啟員嗚詠響啞喚囉團園圍國圖圓聖場壞塊堅壇墳墜壟壘墾塒塹墮牆壯聲殼處備復頭誇夾奪奮獎妝婦"
    "媽婁娛嬰學寧寶實審憲宮寬賓對尋導壽將爾塵嘗層屬歲豈崗島嶺幣帥師帳簾幟帶幫庫應廟廢開異棄張彌彎彈強歸當錄徹徑憶"
    "憂懷態憐總戀惡惱悅懸驚懼慘慣憤願懶戲戰戶撲執擴掃揚擾撫拋搶護報擔擬擁擇掛擋擠揮損換據擲撣攬攙攝擺搖敵數齋鬥斷"
    "無舊時曠曇晝顯曉暈暫術機殺雜權條來楊極構槍櫃標棧棟樹樣檔橋夢檢樓欖歡歐殘毀畢氣匯漢湯溝沒瀝淪滄淚澤潔淺測濟瀏"
    "濃濤渦潤漲淵漸漁溫灣濕滾滿濾濱滅燈靈災爐點煉爛煩燒熱愛爺牽猶獨狹獅獵獻環現瑣電畫暢療瘋癢鹽監蓋盤著睜礦碼磚確"
    "礎碩禮禍離種積稱穩窮竊竄競筆籠築簽簡類糧緊糾紅纖約級紀純綱納縱紛紙紋線練組細織終經綁結繞給絡絕統繼績續維綠緩編"
    "緣縮網羅罰罷職聯聰肅膚腎腫脹脅勝臟腦腳脫臉臘膩艦藝節蘇蘋範莖薦藥萊獲營薩蔥蔣藍慮雖蝦蝕螞蠻補襯襲裝見觀規視覽"
    "覺觸計訂認討讓訓議記講許論設訪證評識訴詞譯試詩話詢該詳語誤說請諸讀課誰調談謝譜貝貞負財責敗貨質購貫貴貸費賀資賞"
    "賠賴賽贊贈贏趙趨躍踐車軌轉輪軟輕載較輛輝輸辭邊達遷過邁運還這進遠違連遲適選遞邏遺鄧郵鄰鄭醬釋裡鑒針釘釣鐘鋼錢鐵"
    "鈴銅鋁鋪鏈銷鎖鍋鋒錯鍵錦鎮鏡長門閃閉問閒間悶鬧聞閥閱隊陽陰陣階際陸陳險隨隱難霧靜韓頁頂項順須顧頓預領頗頻題"
    "顏額風飛飢飯飲飾飽餅館馬驅駛駐駕驗騎騙驟魚魯鮮鳥雞鳴鴨鴻鵝麥黃齊齡龍龜",
)
